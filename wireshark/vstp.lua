-- VSTP in Wireshark and tshark: frames on TCP, in datagrams, and on TLS that is decrypted with a key log.
--
-- Put this file into the folder that Help > About > Folders calls "Personal Lua Plugins", or:
--   tshark -X lua_script:wireshark/vstp.lua -r capture.pcap
-- Port 6969 is dissected at once, other ports by "Decode As" or when a packet begins like a frame.
-- The numbers in parentheses are sections of docs/spec.md.

local FIXED_LEN = 11
local TRAILER_LEN = 4
-- Of a sealed datagram (4.13).
local SEALED_HEADER_LEN = 19
local TAG_LEN = 16
local MAX_FRAME_LEN = 128 * 1024 * 1024

local TYPES = {
    [1] = "HELLO", [2] = "WELCOME", [3] = "DATA", [4] = "PING", [5] = "PONG",
    [6] = "BYE", [7] = "ACK", [8] = "ERR",
}

local vstp = Proto("vstp", "VSTP")
-- The same on TLS, where a frame has a trailer only when its CRC flag says so (2.3).
local vstp_tls = Proto("vstp_tls", "VSTP over TLS")

local f = {
    magic = ProtoField.bytes("vstp.magic", "Magic"),
    version = ProtoField.uint8("vstp.version", "Version"),
    type = ProtoField.uint8("vstp.type", "Type", base.HEX),
    flags = ProtoField.uint8("vstp.flags", "Flags", base.HEX),
    req_ack = ProtoField.bool("vstp.flags.req_ack", "Acknowledgement wanted", 8, nil, 0x01),
    crc_flag = ProtoField.bool("vstp.flags.crc", "Checksum on every transport", 8, nil, 0x02),
    frag = ProtoField.bool("vstp.flags.frag", "Fragment", 8, nil, 0x10),
    comp = ProtoField.bool("vstp.flags.comp", "Compressed", 8, nil, 0x20),
    headers_len = ProtoField.uint16("vstp.headers_length", "Header section length"),
    payload_len = ProtoField.uint32("vstp.payload_length", "Payload length"),
    header = ProtoField.none("vstp.header", "Header"),
    key = ProtoField.bytes("vstp.header.key", "Key"),
    value = ProtoField.bytes("vstp.header.value", "Value"),
    payload = ProtoField.bytes("vstp.payload", "Payload"),
    crc = ProtoField.uint32("vstp.crc", "CRC-32", base.HEX),
    crc_ok = ProtoField.bool("vstp.crc.good", "CRC-32 is right"),
    length = ProtoField.uint32("vstp.length", "Frame length"),
    frag_id = ProtoField.string("vstp.fragment.id", "Fragment set"),
    frag_index = ProtoField.uint32("vstp.fragment.index", "Fragment index"),
    frag_total = ProtoField.uint32("vstp.fragment.total", "Fragments of the set"),
    whole = ProtoField.none("vstp.reassembled", "Reassembled frame"),
    sealed = ProtoField.bytes("vstp.sealed", "Sealed datagram"),
    sealed_version = ProtoField.uint8("vstp.sealed.version", "Version of sealing"),
    sealed_id = ProtoField.bytes("vstp.sealed.id", "Session and direction"),
    sealed_number = ProtoField.uint64("vstp.sealed.number", "Number"),
    ciphertext = ProtoField.bytes("vstp.sealed.ciphertext", "Ciphertext"),
    tag = ProtoField.bytes("vstp.sealed.tag", "Tag"),
}
vstp.fields = {
    f.magic, f.version, f.type, f.flags, f.req_ack, f.crc_flag, f.frag, f.comp, f.headers_len,
    f.payload_len, f.header, f.key, f.value, f.payload, f.crc, f.crc_ok, f.length, f.frag_id,
    f.frag_index, f.frag_total, f.whole, f.sealed, f.sealed_version, f.sealed_id, f.sealed_number,
    f.ciphertext, f.tag,
}

local e = {
    magic = ProtoExpert.new("vstp.expert.magic", "Not a frame: the magic is wrong",
        expert.group.MALFORMED, expert.severity.ERROR),
    version = ProtoExpert.new("vstp.expert.version", "Unknown version",
        expert.group.MALFORMED, expert.severity.ERROR),
    type = ProtoExpert.new("vstp.expert.type", "Reserved frame type",
        expert.group.MALFORMED, expert.severity.ERROR),
    flags = ProtoExpert.new("vstp.expert.flags", "Reserved flags are set",
        expert.group.MALFORMED, expert.severity.ERROR),
    length = ProtoExpert.new("vstp.expert.length", "The length is impossible",
        expert.group.MALFORMED, expert.severity.ERROR),
    crc = ProtoExpert.new("vstp.expert.crc", "The checksum is wrong",
        expert.group.CHECKSUM, expert.severity.ERROR),
    header = ProtoExpert.new("vstp.expert.header", "A header runs past its section",
        expert.group.MALFORMED, expert.severity.ERROR),
    fragment = ProtoExpert.new("vstp.expert.fragment", "The fragment contradicts itself or its set",
        expert.group.REASSEMBLE, expert.severity.ERROR),
    sealed = ProtoExpert.new("vstp.expert.sealed", "Not a sealed datagram: unknown version, or too short",
        expert.group.MALFORMED, expert.severity.ERROR),
}
vstp.experts = {
    e.magic, e.version, e.type, e.flags, e.length, e.crc, e.header, e.fragment, e.sealed,
}

-- Bit operations under the names of three versions of Lua.
local bits = bit32 or bit
local bxor, band, rshift
if bits then
    bxor, band, rshift = bits.bxor, bits.band, bits.rshift
else
    bxor = load("return function(a, b) return a ~ b end")()
    band = load("return function(a, b) return a & b end")()
    rshift = load("return function(a, n) return a >> n end")()
end

local crc_table = {}
for n = 0, 255 do
    local c = n
    for _ = 1, 8 do
        if c % 2 == 1 then
            c = bxor(rshift(c, 1), 0xEDB88320)
        else
            c = rshift(c, 1)
        end
    end
    crc_table[n] = c % 0x100000000
end

-- CRC-32 of IEEE 802.3 (2.3).
local function crc32(text)
    local c = 0xFFFFFFFF
    for at = 1, #text do
        c = bxor(rshift(c, 8), crc_table[band(bxor(c, text:byte(at)), 0xFF)])
    end
    return bxor(c, 0xFFFFFFFF) % 0x100000000
end

local function has_flag(flags, bit)
    return band(flags, bit) ~= 0
end

local function type_name(number)
    return TYPES[number] or string.format("CUSTOM %02X", number)
end

-- Bytes of the frame whose fixed header is at `at`.
local function frame_len(tvb, at, always_trailer)
    local flags = tvb(at + 4, 1):uint()
    local len = FIXED_LEN + tvb(at + 5, 2):le_uint() + tvb(at + 7, 4):uint()
    if always_trailer or has_flag(flags, 0x02) then
        len = len + TRAILER_LEN
    end
    return len
end

-- A decimal number without sign, space or leading zero (4.2).
local function number(text)
    if text and (text == "0" or text:match("^[1-9]%d*$")) then
        return tonumber(text)
    end
end

-- What is wrong with the fixed header, or nil (2.4).
local function fault(tvb, at, always_trailer)
    if tvb(at, 2):string() ~= "VT" then
        return e.magic
    elseif tvb(at + 2, 1):uint() ~= 1 then
        return e.version
    end
    local number = tvb(at + 3, 1):uint()
    if number < 0x10 and not TYPES[number] then
        return e.type
    elseif band(tvb(at + 4, 1):uint(), 0xCC) ~= 0 then
        return e.flags
    elseif frame_len(tvb, at, always_trailer) > MAX_FRAME_LEN then
        return e.length
    end
end

-- Adds the headers; the reserved ones that say what a fragment is.
local function add_headers(tvb, at, len, tree)
    local found = {}
    local finish = at + len
    while at < finish do
        if at + 2 > finish then
            tree:add_proto_expert_info(e.header)
            return found
        end
        local key_len, value_len = tvb(at, 1):uint(), tvb(at + 1, 1):uint()
        local entry_len = 2 + key_len + value_len
        if at + entry_len > finish then
            tree:add_proto_expert_info(e.header)
            return found
        end
        local entry = tree:add(f.header, tvb(at, entry_len))
        local key, value = "", ""
        if key_len > 0 then
            local range = tvb(at + 2, key_len)
            key = range:raw()
            entry:add(f.key, range)
        end
        if value_len > 0 then
            local range = tvb(at + 2 + key_len, value_len)
            value = range:raw()
            entry:add(f.value, range)
        end
        entry:append_text(": " .. key:gsub("[^%g ]", "."))
        found[key] = value
        at = at + entry_len
    end
    return found
end

-- Fragments that wait for the rest, by addresses and number of their set, and what became whole in
-- which packet. Only the first pass over a capture fills them.
local sets, wholes = {}, {}
-- Whether a TCP connection, by Wireshark's number, begins as TLS.
local is_tls = {}
function vstp.init()
    sets, wholes, is_tls = {}, {}, {}
end

local function collect(pinfo, fields, chunk, item, offset)
    local id = number(fields["frag-id"])
    local index = number(fields["frag-index"])
    local total = number(fields["frag-total"])
    local len = number(fields["frag-len"])
    if not (id and index and total and len) or index >= total or total < 2 or len < total then
        item:add_proto_expert_info(e.fragment)
        return
    end
    item:add(f.frag_id, fields["frag-id"]):set_generated()
    item:add(f.frag_index, index):set_generated()
    item:add(f.frag_total, total):set_generated()
    local key = table.concat({
        tostring(pinfo.src), pinfo.src_port, tostring(pinfo.dst), pinfo.dst_port, fields["frag-id"],
    }, " ")
    local place = pinfo.number .. " " .. offset
    if not pinfo.visited then
        local set = sets[key]
        if not set then
            set = { total = total, len = len, have = 0, chunks = {} }
            sets[key] = set
        end
        if set.total ~= total or set.len ~= len then
            wholes[place] = false
        elseif not set.chunks[index] then
            set.chunks[index] = chunk
            set.have = set.have + 1
            if set.have == total then
                local parts = {}
                for n = 0, total - 1 do
                    parts[#parts + 1] = set.chunks[n]
                end
                local whole = table.concat(parts)
                wholes[place] = #whole == len and whole or false
                sets[key] = nil
            end
        end
    end
    if wholes[place] == false then
        item:add_proto_expert_info(e.fragment)
    end
    return wholes[place]
end

local add_frame

-- One frame at `at`; its length, or nil when nothing behind it can be read.
function add_frame(tvb, at, pinfo, tree, always_trailer, summary)
    local wrong = fault(tvb, at, always_trailer)
    if wrong then
        local item = tree:add(vstp, tvb(at))
        item:add(f.magic, tvb(at, 2))
        item:add_proto_expert_info(wrong)
        summary[#summary + 1] = "[broken]"
        return nil
    end
    local flags = tvb(at + 4, 1):uint()
    local with_trailer = always_trailer or has_flag(flags, 0x02)
    local len = frame_len(tvb, at, always_trailer)
    if at + len > tvb:len() then
        local item = tree:add(vstp, tvb(at))
        item:add_proto_expert_info(e.length)
        summary[#summary + 1] = "[cut]"
        return nil
    end
    local kind = tvb(at + 3, 1):uint()
    local item = tree:add(vstp, tvb(at, len), "VSTP " .. type_name(kind))
    item:add(f.magic, tvb(at, 2))
    item:add(f.version, tvb(at + 2, 1))
    item:add(f.type, tvb(at + 3, 1)):append_text(" (" .. type_name(kind) .. ")")
    local bits_item = item:add(f.flags, tvb(at + 4, 1))
    for _, field in ipairs({ f.req_ack, f.crc_flag, f.frag, f.comp }) do
        bits_item:add(field, tvb(at + 4, 1))
    end
    local headers_len = tvb(at + 5, 2):le_uint()
    local payload_len = tvb(at + 7, 4):uint()
    item:add_le(f.headers_len, tvb(at + 5, 2))
    item:add(f.payload_len, tvb(at + 7, 4))
    item:add(f.length, len):set_generated()
    local fields = {}
    if headers_len > 0 then
        fields = add_headers(tvb, at + FIXED_LEN, headers_len, item)
    end
    local payload_at = at + FIXED_LEN + headers_len
    if payload_len > 0 then
        item:add(f.payload, tvb(payload_at, payload_len))
    end
    if with_trailer then
        local range = tvb(at + len - TRAILER_LEN, TRAILER_LEN)
        local good = crc32(tvb(at, len - TRAILER_LEN):raw()) == range:uint()
        local crc = item:add(f.crc, range)
        crc:add(f.crc_ok, range, good):set_generated()
        if not good then
            crc:add_proto_expert_info(e.crc)
        end
    end
    local name = type_name(kind)
    if has_flag(flags, 0x10) and kind ~= 7 then
        name = "fragment " .. (fields["frag-index"] or "?") .. "/" .. (fields["frag-total"] or "?")
        local chunk = payload_len > 0 and tvb(payload_at, payload_len):raw() or ""
        local whole = collect(pinfo, fields, chunk, item, at)
        if whole then
            local inner = ByteArray.new(whole, true):tvb("Reassembled VSTP frame")
            local inside = item:add(f.whole, inner())
            if inner:len() >= FIXED_LEN and add_frame(inner, 0, pinfo, inside, true, {}) ~= inner:len() then
                inside:add_proto_expert_info(e.fragment)
            end
        end
    end
    summary[#summary + 1] = name
    return len
end

local function finish(pinfo, name, summary)
    pinfo.cols.protocol = name
    pinfo.cols.info:set(table.concat(summary, ", "))
end

-- A stream: cut into frames, with the rest asked for.
local function stream(name, always_trailer)
    return function(tvb, pinfo, tree)
        local at, summary = 0, {}
        while at < tvb:len() do
            local left = tvb:len() - at
            local readable = left >= FIXED_LEN
            if not readable and tvb(at, math.min(left, 2)):string() ~= ("VT"):sub(1, left) then
                tree:add(vstp, tvb(at)):add_proto_expert_info(e.magic)
                break
            end
            local need = FIXED_LEN
            if readable then
                if fault(tvb, at, always_trailer) then
                    add_frame(tvb, at, pinfo, tree, always_trailer, summary)
                    break
                end
                need = frame_len(tvb, at, always_trailer)
            end
            if left < need then
                pinfo.desegment_offset = at
                pinfo.desegment_len = readable and need - left or DESEGMENT_ONE_MORE_SEGMENT
                break
            end
            at = at + add_frame(tvb, at, pinfo, tree, always_trailer, summary)
        end
        finish(pinfo, name, summary)
        return tvb:len()
    end
end

local tcp = stream("VSTP", true)
vstp_tls.dissector = stream("VSTP/TLS", false)

-- A sealed datagram (4.13): what is outside of the encryption.
local function sealed(tvb, pinfo, tree)
    local item = tree:add(vstp, tvb(), "VSTP sealed")
    item:add(f.sealed, tvb())
    local summary = "sealed"
    local len = tvb:len() - SEALED_HEADER_LEN - TAG_LEN
    if len < 0 or tvb(2, 1):uint() ~= 1 then
        item:add_proto_expert_info(e.sealed)
        summary = "[broken]"
    else
        item:add(f.sealed_version, tvb(2, 1))
        item:add(f.sealed_id, tvb(3, 8))
        item:add(f.sealed_number, tvb(11, 8))
        if len > 0 then
            item:add(f.ciphertext, tvb(SEALED_HEADER_LEN, len))
        end
        item:add(f.tag, tvb(SEALED_HEADER_LEN + len, TAG_LEN))
        summary = "sealed " .. tostring(tvb(11, 8):uint64())
    end
    finish(pinfo, "VSTP", { summary })
    return tvb:len()
end

-- A datagram: one frame or several whole ones (4.1).
local function udp(tvb, pinfo, tree)
    local at, summary = 0, {}
    if tvb:len() >= 2 and tvb(0, 2):string() == "VS" then
        return sealed(tvb, pinfo, tree)
    end
    while at < tvb:len() do
        if tvb:len() - at < FIXED_LEN then
            tree:add(vstp, tvb(at)):add_proto_expert_info(e.length)
            break
        end
        local len = add_frame(tvb, at, pinfo, tree, true, summary)
        if not len then
            break
        end
        at = at + len
    end
    finish(pinfo, "VSTP", summary)
    return tvb:len()
end

local tls = Dissector.get("tls")
local stream_of = Field.new("tcp.stream")

function vstp.dissector(tvb, pinfo, tree)
    if pinfo.port_type == 2 then
        -- On one port there is plaintext or TLS, which begins with a handshake record of version 3.
        local number = stream_of().value
        if is_tls[number] == nil then
            is_tls[number] = tvb:len() >= 2 and tvb(0, 1):uint() == 22 and tvb(1, 1):uint() == 3
        end
        if is_tls[number] then
            -- Records go on in later segments; a dissector called by another may not ask for those
            -- unless the permission is given again.
            pinfo.can_desegment = 2
            return tls:call(tvb, pinfo, tree)
        end
        return tcp(tvb, pinfo, tree)
    end
    return udp(tvb, pinfo, tree)
end

DissectorTable.get("tcp.port"):add(6969, vstp)
DissectorTable.get("udp.port"):add(6969, vstp)
pcall(function()
    DissectorTable.get("tls.alpn"):add("vstp/1", vstp_tls)
end)
pcall(function()
    DissectorTable.get("tls.port"):add(6969, vstp_tls)
end)

local function looks_like_a_frame(tvb)
    return tvb:len() >= 4 and tvb(0, 2):string() == "VT" and tvb(2, 1):uint() == 1
end

vstp:register_heuristic("tcp", function(tvb, pinfo, tree)
    if not looks_like_a_frame(tvb) then
        return false
    end
    -- The rest of the stream is then ours too, also where a segment begins inside a frame.
    pinfo.conversation = vstp
    tcp(tvb, pinfo, tree)
    return true
end)
local function looks_sealed(tvb)
    return tvb:len() >= SEALED_HEADER_LEN + TAG_LEN and tvb(0, 2):string() == "VS" and tvb(2, 1):uint() == 1
end

vstp:register_heuristic("udp", function(tvb, pinfo, tree)
    if not looks_like_a_frame(tvb) and not looks_sealed(tvb) then
        return false
    end
    pinfo.conversation = vstp
    udp(tvb, pinfo, tree)
    return true
end)
