//! The responder: what it answers to what, and that no client keeps it.

use super::*;

/// Longer than any honest step takes here.
const LONG: Duration = Duration::from_secs(20);

fn server(text: impl Fn() -> String + Send + 'static) -> MetricsServer {
    MetricsServer::bind("127.0.0.1:0", text).unwrap()
}

fn connect(server: &MetricsServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// What is answered to these bytes.
fn ask(server: &MetricsServer, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn get_brings_the_text_with_its_length_and_type_and_head_the_same_without_it() {
    let server = server(|| "a 1\n".to_owned());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
        Content-Length: 4\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n";
    let expected = format!("{head}a 1\n");
    for target in ["/metrics", "/metrics?name=x"] {
        let answer = ask(
            &server,
            &format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        assert_eq!(answer, expected);
    }
    assert_eq!(ask(&server, "GET /metrics HTTP/1.0\r\n\r\n"), expected);
    assert_eq!(ask(&server, "HEAD /metrics HTTP/1.1\r\n\r\n"), head);
}

#[test]
fn what_is_no_such_request_gets_its_status() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (
            "GET /metrics HTTP/2\r\n\r\n",
            "505 HTTP Version Not Supported",
        ),
        ("GET /metrics\r\n\r\n", "400 Bad Request"),
        ("GET  /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("\r\n\r\n", "400 Bad Request"),
        ("\u{16}\u{3}\u{1}", "400 Bad Request"),
    ] {
        assert_eq!(judge(request.as_bytes()), Ask::Wrong(status), "{request:?}");
    }
    assert_eq!(
        judge(b"\xff\xfe \xff \xff\r\n\r\n"),
        Ask::Wrong("400 Bad Request")
    );
    let server = server(String::new);
    let answer = ask(&server, "DELETE /metrics HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn a_head_over_the_limit_is_refused_and_one_below_it_is_answered() {
    let server = server(|| "a 1\n".to_owned());
    let request = |len: usize| {
        let line = "GET /metrics HTTP/1.1\r\nX: ";
        format!("{line}{}\r\n\r\n", "x".repeat(len - line.len() - 4))
    };
    let answer = ask(&server, &request(MAX_REQUEST_LEN));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = ask(&server, &request(4 * MAX_REQUEST_LEN));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn clients_that_say_nothing_or_drip_are_cut_off_and_the_next_is_answered() {
    let server = server(|| "a 1\n".to_owned());
    let silent = connect(&server);
    let mut dripping = connect(&server);
    dripping.write_all(b"GET ").unwrap();
    let answer = ask(&server, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\na 1\n"), "{answer}");
    drop(silent);
}

#[test]
fn a_panic_of_the_text_is_an_error_of_that_request_alone() {
    let asked = std::sync::atomic::AtomicBool::new(false);
    let server = server(move || {
        if !asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("as asked"));
        }
        "a 1\n".to_owned()
    });
    let request = "GET /metrics HTTP/1.1\r\n\r\n";
    assert!(ask(&server, request).starts_with("HTTP/1.1 500 "));
    assert!(ask(&server, request).starts_with("HTTP/1.1 200 "));
}

#[test]
fn shutdown_does_not_wait_for_a_client_and_frees_the_port() {
    let day = Duration::from_secs(24 * 3600);
    let server = MetricsServer::bind_with_time("127.0.0.1:0", String::new, day).unwrap();
    let addr = server.local_addr();
    let mut silent = connect(&server);
    silent.write_all(b"GET ").unwrap();
    // Until the thread has taken it.
    let deadline = clock::now() + LONG;
    while server.state.client().is_none() {
        assert!(clock::now() < deadline);
        std::thread::yield_now();
    }
    // Waiting for the client would take the day.
    server.shutdown();
    drop(TcpAcceptor::bind(addr, 1).unwrap());
}
