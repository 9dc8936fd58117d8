//! Claims about `rename-command`.

mod harness;

use harness::{ask, config, connect, ok};
use tempfile::TempDir;
use thali_server::Server;
use thali_testkit::Reply;

fn start_renamed(dir: &TempDir, renames: &[(&str, &str)]) -> (Server, String) {
    let words = |(old, new): &(&str, &str)| ["--rename-command", old, new].map(str::to_owned);
    let args: Vec<String> = renames.iter().flat_map(words).collect();
    let (config, _) = config(dir.path(), &[("appendonly", "yes"), ("slowlog-log-slower-than", "0")])
        .overridden(&args, [])
        .unwrap();
    let server = Server::start(config).unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

fn is_unknown(reply: Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("ERR unknown command"))
}

#[test]
fn clients_and_scripts_know_the_new_names_alone() {
    let dir = tempfile::tempdir().unwrap();
    let renames = [("SET", "put"), ("FLUSHALL", ""), ("CONFIG", "c0nf"), ("EXEC", "go")];
    let (server, address) = start_renamed(&dir, &renames);
    let mut client = connect(&address);
    let mut monitor = connect(&address);
    ok(&mut monitor, "MONITOR");
    ok(&mut client, "Put k v");
    assert!(monitor.read().unwrap().text().ends_with("\"set\" \"k\" \"v\""));
    for gone in ["SET k w", "flushall", "CONFIG GET dir", "EXEC"] {
        assert!(is_unknown(ask(&mut client, gone)), "{gone}");
    }
    let script = |name: &str| {
        ["EVAL", &format!("return redis.call('{name}', KEYS[1], 'x')"), "1", "k"].map(str::to_owned)
    };
    assert_eq!(client.command(&script("put")).unwrap(), Reply::Status("OK".into()));
    assert!(
        matches!(client.command(&script("set")).unwrap(), Reply::Error(text) if text.contains("Unknown Redis command"))
    );
    ok(&mut client, "MULTI");
    ok(&mut client, "PUT k y");
    assert_eq!(ask(&mut client, "GO"), Reply::Array(vec![Reply::Status("OK".into())]));
    // What is secret is known by what it is, whatever it is called.
    ok(&mut client, "c0nf SET requirepass hush");
    let log = format!("{:?}", ask(&mut client, "SLOWLOG GET 10"));
    assert!(log.contains("(redacted)") && !log.contains("hush"), "{log}");
    let listed = format!("{:?}", ask(&mut client, "COMMAND LIST"));
    assert!(listed.contains("\"set\"") && !listed.contains("\"flushall\""), "{listed}");
    assert_eq!(ask(&mut client, "COMMAND INFO flushall set"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
    assert!(format!("{:?}", ask(&mut client, "COMMAND INFO put c0nf|get")).contains("config|get"));
    assert_eq!(ask(&mut client, "COMMAND GETKEYS put a b").items()[0].text(), "a");
    server.shutdown().unwrap();
}

#[test]
fn a_journal_is_read_under_other_names_than_it_was_written_under() {
    let dir = tempfile::tempdir().unwrap();
    for (at, name) in ["put", "store", "set"].into_iter().enumerate() {
        let renames = if name == "set" { vec![] } else { vec![("SET", name), ("DEL", "")] };
        let (server, address) = start_renamed(&dir, &renames);
        let mut client = connect(&address);
        assert_eq!(ask(&mut client, "DBSIZE").integer(), Some(at as i64));
        ok(&mut client, &format!("{name} k{at} v"));
        ok(&mut client, &format!("{name} gone v PX 1"));
        while ask(&mut client, "EXISTS gone").integer() == Some(1) {}
        server.shutdown().unwrap();
    }
}
