//! The prompt, key by key, on a pseudo terminal.

use std::process::Command;

use tempfile::TempDir;
use thali_testkit::{RespClient, Running, start_redis, start_thali};

use crate::terminal::Terminal;
use crate::{port, text, thali_cli};

struct Prompt {
    server: Running,
    home: TempDir,
    terminal: Terminal,
}

/// A prompt on a Thali of its own.
fn prompt(args: &[&str]) -> Prompt {
    let server = start_thali(Default::default()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(&client(&server, &home, args)).unwrap();
    terminal.expect(&server.store);
    terminal.expect("> ");
    Prompt { server, home, terminal }
}

fn client(server: &Running, home: &TempDir, args: &[&str]) -> Command {
    let mut command = thali_cli();
    command.args(["-p", port(&server.store)]).args(args);
    command.env("HOME", home.path()).env("REDISCLI_HISTFILE", text(&home.path().join("history")));
    command
}

#[test]
fn hints_show_what_may_follow_and_shrink() {
    let Prompt { mut terminal, server: _server, home: _home } = prompt(&[]);
    terminal.press("set");
    terminal.expect("\x1b[90m key value [NX|XX] [GET] [EX seconds|");
    terminal.press(" k v EX ");
    terminal.expect("\x1b[90mseconds [NX|XX] [GET]\x1b[0m");
    terminal.press("10\r");
    terminal.expect("OK");
    terminal.press(":set nohints\rget ");
    terminal.expect("get ");
    terminal.press("k\r");
    terminal.expect("\"v\"");
    terminal.press(":set hints\rget ");
    terminal.expect("\x1b[90mkey\x1b[0m");
}

#[test]
fn hints_come_from_the_server_where_it_says_more() {
    let server = start_redis(&[]).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(&client(&server, &home, &[])).unwrap();
    // PSYNC is in Redis's COMMAND DOCS alone.
    terminal.press("psync ");
    terminal.expect("\x1b[90mreplicationid offset\x1b[0m");
}

#[test]
fn tab_completes_commands_topics_and_words() {
    let Prompt { mut terminal, server: _server, home: _home } = prompt(&[]);
    terminal.press("zrevrangebys\t");
    terminal.expect("ZREVRANGEBYSCORE");
    terminal.press(" z +inf -inf with\t");
    terminal.expect("WITHSCORES");
    terminal.press("\r");
    terminal.expect("(empty array)");
    terminal.press("help @hyp\t");
    terminal.expect("@hyperloglog");
    terminal.press("\r");
    terminal.expect("PFCOUNT\x1b[0m \x1b[90mkey [key ...]");
    terminal.press("help config set\r");
    terminal.expect("parameter value [parameter value ...]");
    terminal.expect("group:\x1b[0m server");
}

#[test]
fn the_prompt_shows_transactions_and_databases() {
    let Prompt { mut terminal, server, home: _home } = prompt(&[]);
    terminal.press("multi\r");
    terminal.expect(&format!("{}(TX)> ", server.store));
    terminal.press("select 3\r");
    terminal.expect("QUEUED");
    terminal.expect("[3](TX)> ");
    terminal.press("discard\r");
    terminal.expect("OK");
    terminal.expect(&format!("{}> ", server.store));
    terminal.press("select 2\r");
    terminal.expect(&format!("{}[2]> ", server.store));
    terminal.press("2 incr n\r");
    terminal.expect("(integer) 1\r\n(integer) 2\r\n");
    terminal.press("quit\r");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_lost_connection_is_dialled_again() {
    let Prompt { mut terminal, server, home: _home } = prompt(&["-n", "1"]);
    let mut other = RespClient::connect(&server.store).unwrap();
    other.command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    terminal.press("ping\r");
    terminal.expect("Error: Server closed the connection");
    terminal.expect("not connected> ");
    terminal.press("ping\r");
    terminal.expect("PONG");
    terminal.expect(&format!("{}[1]> ", server.store));
    terminal.press("connect 127.0.0.1 1\r");
    terminal.expect("Could not connect to Redis at 127.0.0.1:1: Connection refused");
    terminal.expect("not connected> ");
    terminal.press(&format!("connect 127.0.0.1 {}\r", port(&server.store)));
    terminal.expect(&format!("{}[1]> ", server.store));
}

#[test]
fn ctrl_c_leaves_views_and_ends_the_prompt() {
    let Prompt { mut terminal, server, home: _home } = prompt(&["-3"]);
    let mut other = RespClient::connect(&server.store).unwrap();
    terminal.press("subscribe ch\r");
    terminal.expect("Reading messages...");
    other.command(&["PUBLISH", "ch", "hello"]).unwrap();
    terminal.expect("3) \"hello\"");
    // In RESP3 one types on while subscribed.
    terminal.press("echo aloud\r");
    terminal.expect("(subscribed mode)> ");
    terminal.expect("\"aloud\"");
    terminal.expect("Reading messages...");
    terminal.press("\x03");
    terminal.expect(&format!("{}> ", server.store));
    terminal.press("monitor\r");
    terminal.expect("OK");
    other.command(&["GET", "watched"]).unwrap();
    terminal.expect("\"GET\" \"watched\"");
    terminal.press("\x03");
    terminal.expect(&format!("{}> ", server.store));
    terminal.press("ping\r");
    terminal.expect("PONG");
    terminal.expect("> ");
    terminal.press("\x03");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn history_lasts_without_passwords() {
    let Prompt { mut terminal, server, home } = prompt(&[]);
    terminal.press("set k v1\r");
    terminal.expect("OK");
    terminal.press("auth nobody secret1\r");
    terminal.expect("WRONGPASS");
    terminal.press("acl setuser u >secret2\r");
    terminal.expect("OK");
    terminal.press("quit\r");
    assert_eq!(terminal.end(), Some(0));
    let kept = std::fs::read_to_string(home.path().join("history")).unwrap();
    assert_eq!(kept, "set k v1\nquit\n");
    let mut terminal = Terminal::start(&client(&server, &home, &[])).unwrap();
    terminal.expect("> ");
    // Up, up, Enter.
    terminal.press("\x1b[A\x1b[A\r");
    terminal.expect("OK");
    assert!(terminal.screen().contains("set k v1"));
}

#[test]
fn control_characters_are_escaped_on_a_terminal() {
    let Prompt { mut terminal, server: _server, home: _home } = prompt(&[]);
    terminal.press("eval \"return redis.error_reply('ERR a' .. string.char(27) .. '[2Jb')\" 0\r");
    terminal.expect("(error) ERR a\\x1b[2Jb");
    terminal.press("set bin \"\\x1b[2J\\xff\"\r");
    terminal.expect("OK");
    terminal.press("get bin\r");
    terminal.expect("\"\\x1b[2J\\xff\"");
}

#[test]
fn slow_commands_are_told_their_time() {
    let Prompt { mut terminal, server: _server, home: _home } = prompt(&[]);
    terminal.press("blpop none 0.6\r");
    terminal.expect("(nil)\r\n(0.");
}
