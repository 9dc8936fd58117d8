//! Servers that don't behave, and readers that go away: an error in words and an exit code, never a panic.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use thali_testkit::start_redis;

use crate::{port, run, thali_cli};

/// Listens, reads one request of each connection, answers with `reply` and hangs up. The port to dial.
fn answering(reply: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            // Who hangs up first is part of the play.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&reply);
        }
    });
    port.to_string()
}

fn failed(output: &Output, words: &str, case: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(1), words), "{case}");
}

#[test]
fn replies_that_break_off_or_are_none_end_with_words() {
    let closed = "Error: Server closed the connection\n";
    for (reply, words) in [
        (&b""[..], closed),
        (b"$10\r\nabc", closed),
        (b"*3\r\n:1\r\n", closed),
        (b"*2000000000\r\n:1\r\n", closed),
        (b"%1\r\n+key\r\n", closed),
        (b"+OK", closed),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Error: Protocol error, got \"H\" as reply type byte\n"),
        (b"$99999999999999999999\r\n", "Error: Protocol error, a length that is no number\n"),
        (b"*-7\r\n", "Error: Protocol error, a length out of range\n"),
        (b"=2\r\nab\r\n", "Error: Protocol error, a verbatim string without its format\n"),
        ("*1\r\n".repeat(600).as_bytes(), "Error: The reply is nested deeper than 512 levels\n"),
    ] {
        let case = format!("{:.40}", reply.escape_ascii().to_string());
        let port = answering(reply.to_vec());
        for form in ["--raw", "--no-raw", "--csv", "--json"] {
            failed(&run(thali_cli(), &["-p", &port, "-2", form, "get", "k"], b"").unwrap(), words, &case);
        }
    }
}

#[test]
fn deep_replies_below_the_bound_are_shown_in_every_form() {
    let reply = [b"*1\r\n".repeat(500), b":7\r\n".to_vec()].concat();
    let port = answering(reply);
    for form in ["--raw", "--no-raw", "--csv", "--json"] {
        let output = run(thali_cli(), &["-p", &port, "-2", form, "get", "k"], b"").unwrap();
        assert_eq!(output.status.code(), Some(0), "{form}");
        assert!(String::from_utf8_lossy(&output.stdout).contains('7'), "{form}");
    }
}

#[test]
fn modes_say_what_is_wrong_with_a_server() {
    let port = answering(b"-ERR not today\r\n".to_vec());
    for (mode, words) in [
        (&["--scan"][..], "SCAN error: ERR not today\n"),
        (&["--bigkeys"], "Couldn't determine DBSIZE: ERR not today\n"),
        (&["--hotkeys"], "Couldn't determine DBSIZE: ERR not today\n"),
        (&["--stat"], "ERROR: ERR not today\n"),
    ] {
        failed(&run(thali_cli(), &[&["-p", &port], mode].concat(), b"").unwrap(), words, mode[0]);
    }
    let port = answering(b"$3\r\nab".to_vec());
    let output = run(thali_cli(), &["-p", &port, "--pipe"], b"PING\r\n").unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_thali_does_not_have_is_refused_by_name() {
    let server = start_redis(&[]).unwrap();
    for (args, words) in [
        (&["--cluster", "create", "a:1"][..], "--cluster is not here: "),
        (&["--ldb", "--eval", "x"], "--ldb is not here: "),
        (&["--replica"], "--replica is not here: "),
        (&["--rdb", "/nonexistent"], "--rdb is not here yet: "),
        (&["--functions-rdb", "/nonexistent"], "--functions-rdb is not here yet: "),
    ] {
        let output = run(thali_cli(), &[&["-p", port(&server.store)], args].concat(), b"").unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.starts_with(words), "{args:?}: {stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_output_quietly() {
    let server = start_redis(&[]).unwrap();
    let lines: String = (0..50_000).map(|n| format!("SET key:{n} v\r\n")).collect();
    let filled = run(thali_cli(), &["-p", port(&server.store), "--pipe"], lines.as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&filled.stdout).ends_with("errors: 0, replies: 50000\n"));
    for args in [&["--scan"][..], &["keys", "*"]] {
        let mut client: Command = thali_cli();
        client.args(["-p", port(&server.store)]).args(args);
        let mut child =
            client.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut first = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn pipe_reads_replies_while_it_sends() {
    let server = start_redis(&[]).unwrap();
    let port = port(&server.store);
    // More replies than all buffers on the way hold, while more is still to be sent.
    let value = "x".repeat(100_000);
    run(thali_cli(), &["-p", port, "-x", "set", "big"], value.as_bytes()).unwrap();
    let mut lines = "GET big\r\n".repeat(1_000);
    lines += &"SET k v\r\n".repeat(100_000);
    let output = run(thali_cli(), &["-p", port, "--pipe"], lines.as_bytes()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("errors: 0, replies: 101000\n"));
}
