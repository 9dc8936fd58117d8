//! A bug in the store: it ends the process, its report is in the log, and nothing acknowledged is lost.

use super::store::{Store, ask};

#[test]
fn a_panic_is_in_the_log_with_the_way_there_and_the_data_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let mut store = Store::new(data.path(), &["--enable-debug-command", "yes"], &[]);
    let mut client = store.start();
    ask(&mut client, &["SET", "k", "v"]);
    client.send(&["DEBUG", "PANIC"]).unwrap();
    assert!(client.read().is_err(), "the connection ends");
    let log = store.wait_for_end();
    for part in ["BUG REPORT START", "in the thread store-", "DEBUG PANIC called", "STACK TRACE DONE"] {
        assert!(log.contains(part), "no {part} in {log}");
    }
    assert!(log.contains("thali_server::"), "no way there in {log}");
    let mut client = store.start();
    assert_eq!(ask(&mut client, &["GET", "k"]).text(), "v");
    store.kill();
}
