//! Section 4 and appendix B: datagrams that two endpoints send each other, and the tables.

use super::dump;
use super::{root, rows, section, spec};
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::proto::datagram::{
    AnswerLimit, DropReason, Endpoint, EndpointConfig, Event, MAX_DATAGRAM_LEN,
};
use vstp::wire::{self, Limits, Trailer};
use vstp::{Flags, Frame, FrameType};

#[expect(clippy::disallowed_methods, reason = "the origin of a virtual clock")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}

/// A client and a server without a path between them: each datagram is carried by hand.
struct Pair {
    now: Instant,
    client: Endpoint,
    server: Endpoint,
    client_addr: SocketAddr,
    server_addr: SocketAddr,
}

impl Pair {
    /// Both can do this, or all that this crate can.
    fn new(features: Option<&str>) -> Self {
        let now = origin();
        let mut client = EndpointConfig::default();
        if let Some(features) = features {
            client.features = features.parse().expect("names");
        }
        let mut server = client.clone();
        server.accept_sessions = true;
        let addr = |text: &str| text.parse().expect("an address");
        Self {
            client: Endpoint::new(client, [2; 32], now),
            server: Endpoint::new(server, [1; 32], now),
            client_addr: addr("192.0.2.2:5000"),
            server_addr: addr("192.0.2.1:6969"),
            now: now + Duration::from_secs(5),
        }
    }

    /// What an endpoint sends now.
    fn sent(endpoint: &mut Endpoint, now: Instant) -> Vec<Vec<u8>> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while endpoint.poll_transmit(now, 1, &mut out).is_some() {
            all.push(out.clone());
        }
        all
    }

    fn client_sends(&mut self) -> Vec<Vec<u8>> {
        Self::sent(&mut self.client, self.now)
    }

    fn server_sends(&mut self) -> Vec<Vec<u8>> {
        Self::sent(&mut self.server, self.now)
    }

    /// The server gets these and answers.
    fn ask(&mut self, datagrams: &[impl AsRef<[u8]>]) -> Vec<Vec<u8>> {
        for datagram in datagrams {
            self.server
                .handle_datagram(self.now, self.client_addr, datagram.as_ref(), true);
        }
        self.server_sends()
    }

    /// The client gets these and answers.
    fn answer(&mut self, datagrams: &[impl AsRef<[u8]>]) -> Vec<Vec<u8>> {
        for datagram in datagrams {
            self.client
                .handle_datagram(self.now, self.server_addr, datagram.as_ref(), true);
        }
        self.client_sends()
    }

    /// The client sends for acknowledgement.
    fn send(&mut self, frame: Frame) {
        self.client
            .send_with_ack(self.now, self.server_addr, frame)
            .expect("it can be sent");
    }

    /// Opens a session: the four datagrams of that.
    fn connect(&mut self) -> [Vec<u8>; 4] {
        self.client
            .connect(self.now, self.server_addr)
            .expect("there is no session");
        let first = only(self.client_sends());
        let cookie = only(self.ask(&[&first]));
        let second = only(self.answer(&[&cookie]));
        let welcome = only(self.ask(&[&second]));
        assert_eq!(self.answer(&[&welcome]), [[0; 0]; 0]);
        assert!(matches!(
            only(Self::events(&mut self.client)),
            Event::Connected { .. }
        ));
        [first, cookie, second, welcome]
    }

    /// What answers these messages, which arrive together but for one.
    fn acknowledgement(&mut self, texts: &[&str], lost: Option<usize>) -> Vec<u8> {
        for text in texts {
            self.send(Frame::data(*text));
        }
        let mut messages = self.client_sends();
        if let Some(lost) = lost {
            messages.remove(lost);
        }
        let ack = only(self.ask(&messages));
        self.answer(&[&ack]);
        let ended = Self::events(&mut self.client);
        assert_eq!(ended.len(), messages.len());
        ack
    }

    fn events(endpoint: &mut Endpoint) -> Vec<Event> {
        std::iter::from_fn(|| endpoint.poll_event()).collect()
    }

    /// The messages that the server delivered.
    fn delivered(&mut self) -> Vec<Frame> {
        let frame = |event| match event {
            Event::Message { frame, .. } => Some(frame),
            _ => None,
        };
        Self::events(&mut self.server)
            .into_iter()
            .filter_map(frame)
            .collect()
    }
}

fn only<T>(items: Vec<T>) -> T {
    let count = items.len();
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (Some(item), None) => item,
        _ => panic!("{count} instead of one"),
    }
}

/// The datagrams of appendix B, in its order, each with the words of its title.
fn exchange() -> Vec<(&'static str, Vec<u8>)> {
    let mut pair = Pair::new(None);
    let mut all = Vec::new();

    let hello = Frame::data("Hello").with_header("test", "value");
    pair.send(hello.clone());
    let message = only(pair.client_sends());
    let ack = only(pair.ask(&[&message]));
    assert_eq!(pair.delivered(), [hello]);
    all.push(("DATA without a session", message));
    all.push(("its acknowledgement", ack.clone()));
    assert_eq!(pair.answer(&[ack]), [[0; 0]; 0]);
    assert!(matches!(
        only(Pair::events(&mut pair.client)),
        Event::Delivered(_)
    ));

    let [first, cookie, second, welcome] = pair.connect();
    all.push(("HELLO", first));
    all.push(("WELCOME with a cookie", cookie));
    all.push(("HELLO with the cookie", second));
    all.push(("WELCOME with the session", welcome));

    let large = Frame::data("a".repeat(1200));
    pair.send(large.clone());
    let fragments = pair.client_sends();
    assert_eq!(fragments.len(), 2);
    let ack = pair.ask(&fragments);
    assert_eq!(pair.delivered(), [large]);
    pair.answer(&ack);
    Pair::events(&mut pair.client);
    let [first, last] = <[_; 2]>::try_from(fragments).expect("two");
    all.push(("the first of two fragments", first));
    all.push(("the last of two fragments", last));

    pair.now += Duration::from_secs(1);
    pair.send(Frame::data(vec![0; 10_000]));
    let mut fragments = pair.client_sends();
    assert_eq!(fragments.len(), 10);
    // The third, the sixth and the seventh are lost.
    for lost in [6, 5, 2] {
        fragments.remove(lost);
    }
    let progress = only(pair.ask(&fragments));
    all.push(("progress of a set", progress.clone()));
    pair.now += Duration::from_millis(20);
    let resent = pair.answer(&[progress]);
    assert_eq!(resent.len(), 3, "only what is missing");
    let ack = pair.ask(&resent);
    pair.answer(&ack);
    Pair::events(&mut pair.client);

    let ranges = pair.acknowledgement(&["one", "two", "three", "four"], Some(2));
    all.push(("an acknowledgement of three messages", ranges));

    let mut pair = Pair::new(Some("bundle"));
    pair.connect();
    let bundle = pair.acknowledgement(&["one", "two"], None);
    all.push(("a bundle of two acknowledgements", bundle));
    all
}

fn blocks(spec: &str) -> Vec<&str> {
    let blocks = spec.split("```datagram\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("a first piece"))
        .collect()
}

#[test]
fn the_datagrams_of_appendix_b_are_those_that_endpoints_send() {
    let spec = spec();
    let blocks = blocks(&spec);
    let all = exchange();
    let mut wrong = String::new();
    for (index, (title, datagram)) in all.iter().enumerate() {
        let text = dump::text(datagram);
        match blocks.get(index) {
            Some(block) if *block == text => assert_eq!(&dump::bytes(block), datagram, "{title}"),
            _ => wrong += &format!("{title}:\n\n```datagram\n{text}```\n\n"),
        }
    }
    assert!(wrong.is_empty(), "these are right:\n{wrong}");
    assert_eq!(blocks.len(), all.len());
}

#[test]
fn the_datagrams_of_appendix_b_decode_to_their_headers_and_encode_again() {
    let spec = spec();
    let expected: [(FrameType, Flags, &[&str]); 11] = [
        (FrameType::Data, Flags::REQ_ACK, &["test", "msg-id"]),
        (FrameType::Ack, Flags::empty(), &["msg-id"]),
        (
            FrameType::Hello,
            Flags::empty(),
            &["features", "max-frame-size"],
        ),
        (FrameType::Welcome, Flags::empty(), &["cookie"]),
        (
            FrameType::Hello,
            Flags::empty(),
            &["features", "max-frame-size", "cookie"],
        ),
        (
            FrameType::Welcome,
            Flags::empty(),
            &["session-id", "features", "max-frame-size", "sid"],
        ),
        (FrameType::Data, Flags::FRAG.union(Flags::REQ_ACK), FRAGMENT),
        (FrameType::Data, Flags::FRAG.union(Flags::REQ_ACK), FRAGMENT),
        (FrameType::Ack, Flags::FRAG, &["frag-id", "window", "sid"]),
        (FrameType::Ack, Flags::empty(), &["msg-id", "sid"]),
        (FrameType::Ack, Flags::empty(), &["msg-id", "sid"]),
    ];
    let blocks = blocks(&spec);
    assert_eq!(blocks.len(), expected.len());
    let mut inner = Vec::new();
    for (block, (typ, flags, keys)) in blocks.into_iter().zip(expected) {
        let bytes = dump::bytes(block);
        let mut again = Vec::new();
        for frame in dump::frames(&bytes) {
            assert_eq!((frame.typ, frame.flags), (typ, flags));
            let found: Vec<_> = frame.headers.iter().map(|header| header.key).collect();
            let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
            assert_eq!(found, keys);
            if keys.contains(&&b"frag-total"[..]) {
                inner.extend_from_slice(frame.payload);
            }
            let limits = Limits::default();
            wire::encode(frame, Trailer::Always, &limits, &mut again).expect("it was decoded");
        }
        assert_eq!(again, bytes);
        if typ == FrameType::Hello {
            assert_eq!(bytes.len(), 1200);
        }
    }
    let inner = wire::decode_exact(&inner, Trailer::Always, &Limits::default());
    let inner = inner.expect("the chunks are one frame");
    assert_eq!(inner.payload, "a".repeat(1200).as_bytes());
    assert_eq!(inner.flags, Flags::REQ_ACK);
    assert!(inner.header("msg-id").is_some() && inner.header("sid").is_none());
}

/// The headers of a fragment in a session.
const FRAGMENT: &[&str] = &["frag-id", "frag-index", "frag-total", "frag-len", "sid"];

#[test]
fn the_reasons_for_drops_are_those_of_the_code() {
    let spec = spec();
    let rows = rows(section(&spec, "4.11"));
    let words: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(words, DropReason::ALL.map(DropReason::as_str));
    assert!(rows.iter().all(|row| !row[1].is_empty()));
}

/// What is settled by a constant of the code: the words of the table, the file, the constant.
const FIXED: &[(&str, &str, &str)] = &[
    ("datagram received", "config.rs", "MAX_DATAGRAM_LEN"),
    ("HELLO", "config.rs", "HELLO_LEN"),
    ("sets of a session", "config.rs", "MAX_SETS_PER_SESSION"),
    ("sets of a stranger", "config.rs", "MAX_SETS_PER_STRANGER"),
    (
        "fragments of a set in a session",
        "config.rs",
        "MAX_FRAGMENT_COUNT",
    ),
    (
        "fragments of a set of a stranger",
        "config.rs",
        "MAX_STRANGER_FRAGMENT_COUNT",
    ),
    ("least charge of a fragment", "reassembly.rs", "MIN_CHARGE"),
    (
        "ranges of ids of a session, with REQ_ACK and as many without",
        "received.rs",
        "MAX_RANGE_COUNT",
    ),
    (
        "ids of a stranger, with REQ_ACK",
        "received.rs",
        "MAX_STRANGER_COUNT",
    ),
    (
        "ids of a stranger, without REQ_ACK",
        "received.rs",
        "MAX_STRANGER_ONCE_COUNT",
    ),
    (
        "messages taken from one datagram",
        "config.rs",
        "MAX_BUNDLED_COUNT",
    ),
    (
        "answers to strangers that wait to leave",
        "config.rs",
        "MAX_STRAY_COUNT",
    ),
    ("ended sets of a peer", "received.rs", "MAX_ENDED_COUNT"),
    (
        "messages from the oldest on its way to the newest, in a session",
        "config.rs",
        "MAX_SPAN_IN_SESSION",
    ),
    (
        "the same to a stranger",
        "config.rs",
        "MAX_SPAN_OF_STRANGER",
    ),
    (
        "messages that the ACK frames of a datagram name",
        "config.rs",
        "MAX_ACKED_COUNT",
    ),
    (
        "window before the first is known",
        "config.rs",
        "INITIAL_WINDOW_LEN",
    ),
    (
        "new fragments acknowledged at once",
        "config.rs",
        "ACK_EVERY",
    ),
    (
        "later datagrams that make one lost",
        "sent.rs",
        "REORDER_COUNT",
    ),
    (
        "datagrams of the first congestion window",
        "bbr.rs",
        "INITIAL_WINDOW_COUNT",
    ),
    (
        "datagrams of the smallest congestion window",
        "bbr.rs",
        "MIN_WINDOW_COUNT",
    ),
    (
        "datagrams of a burst, at least",
        "pacing.rs",
        "MIN_BURST_COUNT",
    ),
    ("clients that are judged at once", "config.rs", "MAX_JUDGED"),
    (
        "the same of one IPv4 address or IPv6 /64",
        "config.rs",
        "MAX_JUDGED_PER_NETWORK",
    ),
    (
        "between two ERR `rate-limited` in a session",
        "config.rs",
        "RATE_REPORT",
    ),
    ("cookies in a second", "config.rs", "COOKIES_PER_SECOND"),
    ("BYE sent", "peer/mod.rs", "MAX_BYE_COUNT"),
    (
        "silent intervals that end a session",
        "peer/mod.rs",
        "MAX_SILENT_COUNT",
    ),
    (
        "payload of PING and PONG",
        "endpoint/receive.rs",
        "MAX_PING_LEN",
    ),
    ("payload of BYE", "endpoint/receive.rs", "MAX_BYE_LEN"),
    ("payload of ERR", "endpoint/receive.rs", "MAX_ERR_LEN"),
    (
        "first wait for WELCOME",
        "endpoint/handshake.rs",
        "HELLO_WAIT",
    ),
    ("cookie is valid", "secret.rs", "COOKIE_LIFE"),
    ("cookie is used", "endpoint/handshake.rs", "COOKIE_USE"),
    (
        "delay of a progress acknowledgement",
        "config.rs",
        "ACK_DELAY",
    ),
    ("life of a set in a session", "config.rs", "SET_LIFE"),
    ("life of a set of a stranger", "config.rs", "STRANGER_LIFE"),
    ("life of a stranger", "config.rs", "STRANGER_LIFE"),
    (
        "the same, when one is over 2,048 bytes",
        "seal/mod.rs",
        "MAX_SENT_LARGE",
    ),
    (
        "numbers that are kept for goodbye",
        "seal/mod.rs",
        "RESERVE",
    ),
    (
        "datagrams that do not open, of one key",
        "seal/mod.rs",
        "MAX_FORGED",
    ),
    (
        "numbers below the newest that are known one by one",
        "seal/window.rs",
        "WIDTH",
    ),
    (
        "challenges without another datagram from the address",
        "peer/path.rs",
        "TRIES",
    ),
    (
        "former addresses of a session",
        "peer/path.rs",
        "MAX_FORMER",
    ),
    ("credit for answers", "answer.rs", "LIFE"),
    ("burst", "pacing.rs", "BURST"),
];

/// The value of a constant, as [`plain`] writes it.
fn constant(file: &str, name: &str) -> String {
    let path = root().join("src/proto/datagram").join(file);
    let text = fs::read_to_string(path).expect("the file exists");
    let begin = format!("const {name}: ");
    let line = text.lines().find(|line| line.contains(&begin));
    let line = line.unwrap_or_else(|| panic!("{file} has no {name}"));
    let value = line.split(" = ").nth(1).expect("it has a value");
    let value = value.trim_end_matches(';').replace('_', "");
    for (unit, begin) in [
        ("s", "Duration::fromsecs("),
        ("ms", "Duration::frommillis("),
    ] {
        if let Some(number) = value.strip_prefix(begin) {
            return format!("{}{unit}", number.trim_end_matches(')'));
        }
    }
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    let value: u64 = match value.split_once("<<") {
        Some((one, shift)) => number(one) << number(shift),
        None => value.split('*').map(number).product(),
    };
    value.to_string()
}

/// A value of the table in the form in which Rust shows it.
fn plain(value: &str) -> String {
    let value = value.split(';').next().expect("a first piece");
    let words: Vec<_> = value.split(' ').collect();
    let number = |text: &str| text.replace(',', "").parse::<u64>().expect("a number");
    match words[..] {
        ["no"] => "false".to_owned(),
        ["yes"] => "true".to_owned(),
        ["none"] => "None".to_owned(),
        ["unlimited"] => format!("{:?}", AnswerLimit::Unlimited),
        [word] if word.starts_with('`') => word.trim_matches('`').to_owned(),
        [count] | [count, "bytes"] => number(count).to_string(),
        [count, "KiB"] => (number(count) << 10).to_string(),
        [count, "MiB"] => (number(count) << 20).to_string(),
        [count, unit @ ("s" | "ms")] => format!("{}{unit}", number(count)),
        _ => panic!("{value}"),
    }
}

/// Names and values of all settings.
fn settings() -> Vec<(String, String)> {
    let config = EndpointConfig::default();
    let shown = format!("{config:#?}");
    let fields = shown.lines().filter_map(|line| {
        let field = line.strip_prefix("    ")?;
        let (name, value) = field.split_once(": ")?;
        let value = match name {
            "features" => config.features.to_string(),
            _ => value.trim_end_matches(',').to_owned(),
        };
        (!name.starts_with([' ', ')'])).then(|| (name.to_owned(), value))
    });
    // What an event log keeps is no matter of the protocol.
    fields
        .filter(|(name, _)| name != "max_trace_count")
        .collect()
}

#[test]
fn the_limits_and_times_are_those_of_the_code() {
    let spec = spec();
    let mut settings = settings();
    assert!(settings.len() >= 21, "{settings:?}");
    let mut fixed = FIXED.to_vec();
    for row in rows(section(&spec, "4.12")) {
        let (words, default, setting) = (row[0], row[1], row[2].trim_matches('`'));
        if setting.is_empty() {
            let at = fixed.iter().position(|(known, ..)| *known == words);
            let at = at.unwrap_or_else(|| panic!("{words}: no setting, and no constant"));
            let (_, file, name) = fixed.remove(at);
            assert_eq!(plain(default), constant(file, name), "{words}");
        } else {
            let at = settings.iter().position(|(known, _)| known == setting);
            let at = at.unwrap_or_else(|| panic!("{setting}: unknown, or there twice"));
            let (_, value) = settings.remove(at);
            assert_eq!(plain(default), value, "{setting}");
        }
    }
    assert!(settings.is_empty(), "not in the tables: {settings:?}");
    assert!(fixed.is_empty(), "not in the tables: {fixed:?}");
    assert_eq!(MAX_DATAGRAM_LEN, 65_507);
}

#[test]
fn the_budgets_of_reassembly_are_those_of_the_limits() {
    let spec = spec();
    let budgets = rows(section(&spec, "4.9"));
    let limits = rows(section(&spec, "4.12"));
    let limit = |words: &str| {
        let row = limits.iter().find(|row| row[0] == words);
        row.map_or_else(|| panic!("no {words}"), |row| row[1])
    };
    let expected = [
        [
            "reassembly for a stranger",
            "reassembly for a session",
            "reassembly in all",
        ],
        ["sets of a stranger", "sets of a session", "sets in all"],
    ];
    for (row, expected) in budgets.iter().zip(expected) {
        assert_eq!(row[1..4], expected.map(limit));
    }
    assert_eq!(budgets[2][1], limit("fragments of a set of a stranger"));
    assert_eq!(budgets[2][2], limit("fragments of a set in a session"));
    assert!(budgets[3][1].starts_with(limit("life of a set of a stranger")));
    assert!(budgets[3][2].starts_with(limit("life of a set in a session")));
}
