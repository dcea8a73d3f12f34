//! `vstp inspect`: every vector, a thousand damaged ones, every form of input.

use crate::util::{Folder, LONG, noise, vstp, vstp_with};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::net::UdpSocket;
use vstp::ext::compression::compress;
use vstp::wire::crc::crc32;
use vstp::wire::{Buffer, Decoded, Limits, Trailer, decode, decode_exact};
use vstp::{Flags, Frame, VstpUdpClient, encode_frame, try_decode_frame};

fn vectors() -> Vec<(Value, Vec<u8>)> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../vectors/frames.json")).unwrap();
    let bytes = |v: &Value| {
        HEXLOWER
            .decode(v["frame"].as_str().unwrap().as_bytes())
            .unwrap()
    };
    all.into_iter()
        .map(|v| (bytes(&v), v))
        .map(|(b, v)| (v, b))
        .collect()
}

#[test]
fn every_vector_is_taken_apart() {
    for (vector, bytes) in vectors() {
        let name = &vector["name"];
        let shown = &vstp_with(&["inspect", "--json"], &bytes).ok().json()[0];
        assert_eq!(shown["len"], bytes.len(), "{name}");
        assert_eq!(
            shown["payload_len"],
            vector["payload"].as_str().unwrap().len() / 2,
            "{name}"
        );
        let headers = vector["headers"].as_array().unwrap().len();
        assert_eq!(
            shown["headers"].as_array().unwrap().len(),
            headers,
            "{name}"
        );
        // The parts cover the frame without a gap.
        let mut at = 0;
        for part in shown["parts"].as_array().unwrap() {
            assert_eq!(part["offset"], at, "{name}: {part}");
            at += part["len"].as_u64().unwrap();
        }
        assert_eq!(at, bytes.len() as u64, "{name}");
        let hex = vector["frame"].as_str().unwrap();
        let text = vstp_with(&["inspect"], hex.as_bytes()).ok().text();
        assert!(text.contains("\"VT\", VERSION 1"), "{name}: {text}");
    }
}

/// A reproducible choice below `limit`.
fn choice(state: &mut u64, limit: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    (*state >> 33) as usize % limit
}

#[test]
fn a_thousand_damaged_vectors_name_the_right_byte() {
    let vectors = vectors();
    let mut state = 1;
    let mut damaged = Vec::new();
    while damaged.len() < 1000 {
        let (_, bytes) = &vectors[choice(&mut state, vectors.len())];
        let mut copy = bytes.clone();
        let (at, change) = (
            choice(&mut state, copy.len()),
            1 + choice(&mut state, 255) as u8,
        );
        copy[at] ^= change;
        damaged.push((at, bytes[at], copy));
    }
    // Each is a UDP datagram of one capture: a thousand at once, and none spoils the next.
    let capture = pcap(damaged.iter().map(|(_, _, bytes)| bytes.as_slice()));
    let ended = vstp_with(&["inspect", "--json"], &capture);
    assert!(
        [6, 7].contains(&ended.code),
        "{}: {}",
        ended.code,
        ended.err
    );
    let shown = ended.json();
    // Datagrams whose first byte is not that of VSTP are somebody else's.
    let ours: Vec<_> = damaged.iter().filter(|(at, ..)| *at != 0).collect();
    assert_eq!(shown.len(), ours.len());
    for ((at, was, bytes), shown) in ours.iter().zip(&shown) {
        let limits = Limits {
            max_frame_len: 128 << 20,
            ..Limits::default()
        };
        assert!(
            decode_exact(bytes, Trailer::Always, &limits).is_err(),
            "{shown}"
        );
        assert_eq!(
            shown["wrong_byte"],
            *at,
            "{shown} {}",
            HEXLOWER.encode(bytes)
        );
        assert_eq!(shown["was"], *was, "{shown}");
    }
    for (at, was, bytes) in damaged.iter().filter(|(at, ..)| *at == 0).take(3) {
        let shown = vstp_with(&["inspect", "--json", "--format", "bin"], bytes).json();
        assert_eq!(
            (&shown[0]["wrong_byte"], &shown[0]["was"]),
            (&json!(at), &json!(was))
        );
    }
}

#[test]
fn damage_of_many_bytes_never_ends_in_a_panic() {
    let vectors = vectors();
    let mut state = 99;
    let folder = Folder::new();
    for round in 0..40 {
        let (_, bytes) = &vectors[choice(&mut state, vectors.len())];
        let mut bytes = bytes.clone();
        for _ in 0..=choice(&mut state, 6) {
            let at = choice(&mut state, bytes.len());
            bytes[at] = choice(&mut state, 256) as u8;
        }
        bytes.truncate(1 + choice(&mut state, bytes.len()));
        let file = folder.file("f", &bytes);
        for format in ["bin", "auto", "hex", "pcap"] {
            let ended = vstp(&["inspect", &file, "--format", format]);
            assert!(
                [0, 6, 7].contains(&ended.code),
                "{round} {format}: {ended:?}"
            );
            assert!(!ended.err.contains("panicked"), "{ended:?}");
        }
    }
    for seed in 0..10 {
        let mut capture = pcap([&noise(200, seed)[..]].into_iter());
        for _ in 0..8 {
            let at = 4 + choice(&mut state, capture.len() - 4);
            capture[at] = choice(&mut state, 256) as u8;
        }
        let ended = vstp_with(&["inspect"], &capture);
        assert!([0, 6, 7].contains(&ended.code), "{ended:?}");
    }
}

#[test]
fn the_first_wrong_byte_is_pointed_at() {
    let good = encode_frame(&Frame::data("hello").with_header("k", "v")).unwrap();
    let wrong = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let end = bytes.len() - 4;
        // The checksum agrees, so that the fault itself is seen.
        let crc = crc32(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    for (bytes, place, words) in [
        (wrong(1, b'X'), 1, "magic"),
        (wrong(2, 9), 2, "version 9"),
        (wrong(3, 0x0a), 3, "0x0a does not exist"),
        (wrong(4, 0x40), 4, "reserved flag"),
        (wrong(7, 0xff), 7, "over the limit"),
        (wrong(12, 200), 11, "runs past its end"),
    ] {
        let ended = vstp_with(&["inspect", "--format", "bin"], &bytes);
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(
            ended.err.contains(&format!("byte {place} ")) && ended.err.contains(words),
            "{ended:?}"
        );
        let text = ended.text();
        let lines: Vec<_> = text.lines().collect();
        let mark = lines
            .iter()
            .position(|line| line.trim() == "^^")
            .unwrap_or_else(|| panic!("{text}"));
        let column = lines[mark].find('^').unwrap();
        let digits = &lines[mark - 1][column..column + 2];
        assert_eq!(digits, format!("{:02x}", bytes[place]), "{text}");
    }
    let cut = vstp_with(&["inspect", "--format", "bin"], &good[..20]);
    assert_eq!(cut.code, 6);
    assert!(
        cut.err.contains("byte 20") && cut.err.contains("missing"),
        "{cut:?}"
    );
    let mut two = wrong(16, b'!');
    two[18] ^= 1;
    two[15] ^= 1;
    let crc = vstp_with(&["inspect"], &two);
    assert_eq!(crc.code, 7, "{crc:?}");
}

#[test]
fn a_stream_is_read_up_to_its_first_error() {
    let one = encode_frame(&Frame::data("one")).unwrap();
    let mut bytes = [&one[..], &one, b"xx", &one].concat();
    let ended = vstp_with(&["inspect", "--json", "--format", "bin"], &bytes);
    let shown = ended.json();
    assert_eq!((ended.code, shown.len()), (6, 3), "{shown:?}");
    assert_eq!(shown[2]["wrong_byte"], 2 * one.len());
    bytes.truncate(2 * one.len());
    let shown = vstp_with(&["inspect", "--json"], &bytes).ok().json();
    assert_eq!(shown[1]["offset"], one.len());
    let tls = vstp_with(&["inspect", "--tls", "--json"], &one[..one.len() - 4])
        .ok()
        .json();
    assert_eq!(tls[0]["payload"], "one");
}

#[test]
fn tokens_are_not_shown() {
    let hello = Frame::new(vstp::FrameType::Hello).with_header("auth-token", "s3cret");
    let bytes = encode_frame(&hello).unwrap();
    let secret = HEXLOWER.encode(b"s3cret");
    for args in [&["inspect"][..], &["inspect", "--json"]] {
        let text = vstp_with(args, &bytes).ok().text();
        let digits = text.replace(' ', "");
        assert!(
            !text.contains("s3cret") && !digits.contains(&secret),
            "{text}"
        );
    }
}

#[test]
fn other_input_is_refused() {
    vstp_with(&["inspect"], b"").failed(6, &["no frame"]);
    vstp_with(&["inspect", "--format", "hex"], b"hello").failed(6, &["line 1", "--format bin"]);
    vstp_with(&["inspect", "--format", "pcap"], b"hello").failed(6, &["pcap"]);
}

#[test]
fn streams_of_a_capture_are_put_in_order() {
    let frames: Vec<u8> = (0..20)
        .flat_map(|n| encode_frame(&Frame::data(format!("message {n}"))).unwrap())
        .collect();
    let (a, rest) = frames.split_at(100);
    let (b, c) = rest.split_at(200);
    let start = 0xffff_ff80_u32;
    let at = |offset: u32| start.wrapping_add(1).wrapping_add(offset);
    let segments = [
        tcp(start, true, b""),
        tcp(at(0), false, a),
        tcp(at(300), false, c),
        tcp(at(100), false, b),
        // Sent twice, cut differently.
        tcp(at(50), false, &frames[50..150]),
    ];
    let packets: Vec<_> = segments.iter().map(|s| ethernet(&ipv4(6, s))).collect();
    let capture = pcap_of(packets.iter().map(Vec::as_slice), 1);
    let shown = vstp_with(&["inspect", "--json"], &capture).ok().json();
    let payloads: Vec<_> = shown
        .iter()
        .map(|s| s["payload"].as_str().unwrap().to_owned())
        .collect();
    let want: Vec<_> = (0..20).map(|n| format!("message {n}")).collect();
    assert_eq!(payloads, want);
    assert_eq!(shown[0]["flow"], "TCP 10.0.0.1:1000 > 10.0.0.2:6969");

    let shown = vstp_with(&["inspect", "--json"], &pcapng(&packets))
        .ok()
        .json();
    assert_eq!(shown.len(), 20);
}

#[test]
fn compressed_payloads_are_inflated() {
    let text = "the same again ".repeat(500);
    let small = compress(text.as_bytes(), 6).unwrap();
    let frame = Frame::data(small.clone()).with_flag(Flags::COMP);
    let bytes = encode_frame(&frame).unwrap();
    let shown = &vstp_with(&["inspect", "--json"], &bytes).ok().json()[0];
    assert_eq!(shown["inflated"]["payload"], text.as_str());
    assert_eq!(shown["inflated"]["len"], text.len());
    assert_eq!(shown["payload_len"], small.len());
    let text = vstp_with(&["inspect"], &bytes).ok().text();
    assert!(
        text.contains("inflated, the payload has 7500 bytes"),
        "{text}"
    );

    // What cannot be inflated is said to be so, and a bomb is not.
    let mut wrong = small;
    *wrong.last_mut().unwrap() ^= 1;
    let bomb = compress(&vec![0; 10_000_000], 9).unwrap();
    for (payload, limit, words) in [
        (wrong, "1MiB", "length"),
        (bomb.clone(), "1MiB", "more than 1048576 bytes"),
        // It would be a frame, but no more than 8 MiB of a payload are made.
        (bomb, "128MiB", "more than 8388608 bytes"),
    ] {
        let frame = Frame::data(payload).with_flag(Flags::COMP);
        let bytes = encode_frame(&frame).unwrap();
        let text = vstp_with(&["inspect", "--max-frame-size", limit], &bytes);
        assert!(text.ok().text().contains(words), "{words}");
        let args = ["inspect", "--json", "--max-frame-size", limit];
        let ended = vstp_with(&args, &bytes).ok();
        let error = ended.json()[0]["inflated"]["error"].clone();
        assert!(error.as_str().unwrap().contains(words), "{error}");
    }
}

/// A message in the fragments that the library makes of it.
fn fragments(frame: &Frame) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let client = VstpUdpClient::bind("127.0.0.1:0").unwrap();
    client.send(frame, socket.local_addr().unwrap()).unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let len = socket.recv(&mut buffer).unwrap();
        all.push(buffer[..len].to_vec());
        let mut last = Buffer::from(buffer[..len].to_vec());
        let last = try_decode_frame(&mut last, len).unwrap().unwrap();
        let number = |key| last.header_str(key).unwrap().parse::<usize>().unwrap();
        if number("frag-total") == all.len() {
            return all;
        }
    }
}

#[test]
fn fragments_are_put_together_when_all_are_there() {
    let payload = HEXLOWER.encode(&noise(2500, 4));
    let message = Frame::data(payload.as_str()).with_header("k", "v");
    let mut datagrams = fragments(&message);
    let count = datagrams.len();
    assert!(count > 2, "{count}");
    // In another order, one of them twice.
    datagrams.reverse();
    datagrams.insert(0, datagrams[1].clone());
    let capture = pcap(datagrams.iter().map(Vec::as_slice));
    let shown = vstp_with(&["inspect", "--json"], &capture).ok().json();
    assert_eq!(shown.len(), count + 1);
    let missing: Vec<_> = shown
        .iter()
        .map(|s| s["fragment"]["missing"].as_u64().unwrap())
        .collect();
    let last = missing.len() - 1;
    assert_eq!((missing[0], missing[last]), (count as u64 - 1, 0));
    assert!(shown[..last].iter().all(|s| s["reassembled"].is_null()));
    let whole = &shown[last]["reassembled"];
    assert_eq!(whole["payload"], payload.as_str());
    assert_eq!(whole["type"], "DATA");
    assert_eq!(whole["headers"][0], json!({"key": "k", "value": "v"}));
    let text = vstp_with(&["inspect"], &capture).ok().text();
    assert!(text.contains("put together from its fragments:"), "{text}");

    // One that is not there: all others are shown, and say what is missing.
    let some = pcap(datagrams[1..count].iter().map(Vec::as_slice));
    let shown = vstp_with(&["inspect", "--json"], &some).ok().json();
    assert_eq!(shown.last().unwrap()["fragment"]["missing"], 1);
    assert!(shown.iter().all(|s| s["reassembled"].is_null()));
}

/// The fragments of these bytes, cut by hand.
fn cut(bytes: &[u8], len: usize) -> Vec<u8> {
    let chunks: Vec<_> = bytes.chunks(len).collect();
    let total = chunks.len().to_string();
    let mut out = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let frame = Frame::data(*chunk)
            .with_flag(Flags::FRAG)
            .with_header("frag-id", "5")
            .with_header("frag-index", index.to_string())
            .with_header("frag-total", &total)
            .with_header("frag-len", bytes.len().to_string());
        out.extend(encode_frame(&frame).unwrap());
    }
    out
}

#[test]
fn a_compressed_message_in_fragments_is_shown_whole_and_a_wrong_one_is_named() {
    let text = HEXLOWER.encode(&noise(3000, 8));
    let small = compress(text.as_bytes(), 6).unwrap();
    let inner = encode_frame(&Frame::data(small).with_flag(Flags::COMP)).unwrap();
    let shown = vstp_with(&["inspect", "--json"], &cut(&inner, 1000))
        .ok()
        .json();
    let last = shown.last().unwrap();
    assert_eq!(last["reassembled"]["inflated"]["payload"], text.as_str());

    // The datagrams are right, the frame that they make is not.
    let mut wrong = inner;
    wrong[700] ^= 4;
    let ended = vstp_with(&["inspect", "--json"], &cut(&wrong, 1000));
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(ended.err.contains("wrong at its byte 700"), "{ended:?}");
    let shown = ended.json();
    let inner = &shown.last().unwrap()["reassembled"];
    assert_eq!(
        (&inner["wrong_byte"], &inner["was"]),
        (&json!(700), &json!(wrong[700] ^ 4))
    );
}

#[test]
fn damage_inside_of_valid_frames_never_ends_in_a_panic() {
    let text = HEXLOWER.encode(&noise(600, 8));
    let small = compress(text.as_bytes(), 6).unwrap();
    let whole = encode_frame(&Frame::data(small).with_flag(Flags::COMP)).unwrap();
    let fragments = cut(&whole, 100);
    let mut frames = vec![whole];
    let mut rest = &fragments[..];
    while let Some(Decoded::Frame(_, len)) = decode(rest, Trailer::Always, &Limits::default())
        .ok()
        .filter(|_| !rest.is_empty())
    {
        frames.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    assert!(frames.len() > 5, "{}", frames.len());
    let mut state = 5;
    let mut damaged = Vec::new();
    while damaged.len() < 1000 {
        let mut bytes = frames[choice(&mut state, frames.len())].clone();
        let end = bytes.len() - 4;
        for _ in 0..=choice(&mut state, 3) {
            // Behind the fixed header, and with a checksum that agrees: the frame is valid, or its headers are not.
            let at = 11 + choice(&mut state, end - 11);
            bytes[at] ^= 1 << choice(&mut state, 8);
        }
        let crc = crc32(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_be_bytes());
        damaged.push(bytes);
    }
    let capture = pcap(damaged.iter().map(Vec::as_slice));
    for args in [&["inspect", "--json"][..], &["inspect"]] {
        let ended = vstp_with(args, &capture);
        assert!(
            [0, 6, 7].contains(&ended.code),
            "{}: {}",
            ended.code,
            ended.err
        );
        if args.len() == 2 {
            let shown = ended.json();
            assert_eq!(shown.len(), damaged.len(), "none spoils the next");
            let noted = |what: &str| shown.iter().filter(|s| !s[what].is_null()).count();
            assert!(noted("fragment") > 100 && noted("inflated") > 50);
        }
    }
}

#[test]
fn sealed_datagrams_are_shown_from_outside() {
    let mut sealed = b"VS\x01".to_vec();
    sealed.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 1, 2]);
    sealed.extend(noise(100, 1));
    let frame = encode_frame(&Frame::data("x")).unwrap();
    let capture = pcap([&sealed[..], &frame].into_iter());
    let shown = vstp_with(&["inspect", "--json"], &capture).ok().json();
    assert_eq!(shown.len(), 2);
    let first = &shown[0];
    assert_eq!(
        (
            &first["type"],
            &first["id"],
            &first["number"],
            &first["ciphertext_len"]
        ),
        (
            &json!("sealed"),
            &json!("0102030405060708"),
            &json!(258),
            &json!(84)
        )
    );
    let text = vstp_with(&["inspect"], &sealed).ok().text();
    assert!(
        text.contains("sealed, 119 bytes") && text.contains("number 258"),
        "{text}"
    );
    // Too short for one, and another version.
    for bytes in [sealed[..34].to_vec(), [b"VS\x02", &sealed[3..]].concat()] {
        let ended = vstp_with(&["inspect", "--format", "bin"], &bytes);
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(ended.err.contains("byte 1 "), "{ended:?}");
    }
}

// Captures made by hand.

fn pcap<'a>(datagrams: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let packets: Vec<_> = datagrams.map(|bytes| ipv4(17, &udp(bytes))).collect();
    pcap_of(packets.iter().map(Vec::as_slice), 101)
}

fn pcap_of<'a>(packets: impl Iterator<Item = &'a [u8]>, link: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0xa1b2_c3d4_u32.to_le_bytes());
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    out.extend(link.to_le_bytes());
    for packet in packets {
        let len = (packet.len() as u32).to_le_bytes();
        out.extend([0; 8]);
        out.extend(len);
        out.extend(len);
        out.extend(packet);
    }
    out
}

fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    let block = |typ: u32, body: &[u8]| {
        let padding = vec![0; body.len().wrapping_neg() % 4];
        let len = (12 + body.len() + padding.len()) as u32;
        [
            &typ.to_le_bytes(),
            &len.to_le_bytes(),
            body,
            &padding,
            &len.to_le_bytes(),
        ]
        .concat()
    };
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let mut out = block(0x0a0d_0d0a, &section);
    out.extend(block(1, &[1, 0, 0, 0, 0, 0, 4, 0]));
    for packet in packets {
        let mut body = vec![0; 12];
        body.extend((packet.len() as u32).to_le_bytes());
        body.extend((packet.len() as u32).to_le_bytes());
        body.extend(packet);
        out.extend(block(6, &body));
    }
    out
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [
        &1000_u16.to_be_bytes()[..],
        &6969_u16.to_be_bytes(),
        &len.to_be_bytes(),
        &[0; 2],
        payload,
    ]
    .concat()
}

fn tcp(sequence: u32, is_syn: bool, payload: &[u8]) -> Vec<u8> {
    let flags = [0x50, if is_syn { 0x02 } else { 0x10 }];
    let ports = [&1000_u16.to_be_bytes()[..], &6969_u16.to_be_bytes()].concat();
    [
        &ports[..],
        &sequence.to_be_bytes(),
        &[0; 4],
        &flags,
        &[0; 6],
        payload,
    ]
    .concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = ((20 + payload.len()) as u16).to_be_bytes();
    let head = [
        0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    [&head[..], payload].concat()
}

fn ethernet(ip: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &[0x81, 0, 0, 1, 8, 0], ip].concat()
}
