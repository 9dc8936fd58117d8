//! Claims about users over real connections: each connection lives on the other loop than the one before.

use thali_server::Server;
use thali_server::config::Config;
use thali_testkit::{Reply, RespClient};

mod harness;

use harness::{ask, config, connect, start, wait_for_blocked};

const NO_FILE: (&str, &str) = ("appendonly", "no");

fn log_in(address: &str, user: &str) -> RespClient {
    let mut client = connect(address);
    assert_eq!(ask(&mut client, &format!("AUTH {user} x")).text(), "OK");
    client
}

#[track_caller]
fn refused(client: &mut RespClient, line: &str, expected: &str) {
    assert_eq!(ask(client, line), Reply::Error(expected.into()), "{line}");
}

#[track_caller]
fn done(client: &mut RespClient, line: &str) {
    let reply = ask(client, line);
    assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
}

fn field(entry: &Reply, name: &str) -> Reply {
    let Reply::Array(items) = entry else { panic!("{entry:?}") };
    items.chunks(2).find(|pair| pair[0].text() == name).unwrap_or_else(|| panic!("{name}: {entry:?}"))[1]
        .clone()
}

const NO_KEY: &str = "NOPERM No permissions to access a key";
const NO_CHANNEL: &str = "NOPERM No permissions to access a channel";

#[test]
fn rules_hold_at_once_on_every_loop() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    done(&mut admin, "ACL SETUSER app on nopass +@all -config|set ~app:* &app:*");
    let (mut one, mut other) = (log_in(&address, "app"), log_in(&address, "app"));
    for client in [&mut one, &mut other] {
        done(client, "SET app:1 v");
        refused(client, "SET b v", NO_KEY);
        refused(client, "MSET app:1 v b v", NO_KEY);
        refused(client, "WATCH b", NO_KEY);
        refused(client, "PUBLISH b m", NO_CHANNEL);
        refused(
            client,
            "CONFIG SET maxmemory 1",
            "NOPERM User app has no permissions to run the 'config|set' command",
        );
        assert_eq!(ask(client, "ACL WHOAMI").text(), "app");
        assert!(ask(client, "CLIENT LIST").text().contains("user=app"));
    }
    for _ in 0..200 {
        done(&mut admin, "ACL SETUSER app -get");
        for client in [&mut one, &mut other] {
            refused(client, "GET app:1", "NOPERM User app has no permissions to run the 'get' command");
        }
        done(&mut admin, "ACL SETUSER app +get");
        assert_eq!(ask(&mut other, "GET app:1").text(), "v");
    }
    let stats = ask(&mut admin, "INFO stats").text();
    for figure in ["auth:0", "cmd:402", "key:6", "channel:2"] {
        assert!(stats.contains(&format!("acl_access_denied_{figure}\r\n")), "{stats}");
    }
    server.shutdown().unwrap();
}

#[test]
fn a_transaction_is_asked_when_it_is_queued_and_when_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    done(&mut admin, "ACL SETUSER app on nopass +@all ~a*");
    let mut app = log_in(&address, "app");
    done(&mut app, "MULTI");
    refused(&mut app, "INCR b", NO_KEY);
    refused(&mut app, "EXEC", "EXECABORT Transaction discarded because of previous errors.");
    done(&mut app, "MULTI");
    done(&mut app, "INCR a");
    done(&mut app, "ECHO still");
    done(&mut admin, "ACL SETUSER app -incr");
    let reply = ask(&mut app, "EXEC");
    let [Reply::Error(error), still] = reply.items() else { panic!("{reply:?}") };
    assert!(error.starts_with("NOPERM ACLs rules changed between the moment the transaction"), "{error}");
    assert!(error.ends_with("reason: no permission to execute the command or subcommand"), "{error}");
    assert_eq!(still.text(), "still");
    assert_eq!(ask(&mut admin, "EXISTS a").integer(), Some(0));
    let log = ask(&mut admin, "ACL LOG");
    let shown = |name| field(&log.items()[0], name).text();
    assert_eq!(
        (shown("context"), shown("object"), shown("username")),
        ("multi".into(), "incr".into(), "app".into())
    );
    assert!(shown("client-info").contains("cmd=exec user=app"), "{log:?}");
    server.shutdown().unwrap();
}

#[test]
fn a_script_has_the_rights_of_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    done(&mut admin, "ACL SETUSER app on nopass +eval +get +multi +exec ~a*");
    let mut app = log_in(&address, "app");
    let mut eval = |script: &str| app.command(&["EVAL", script, "0"]).unwrap();
    let failed = |reply: Reply, part: &str| {
        let Reply::Error(text) = &reply else { panic!("{reply:?}") };
        assert!(text.contains(part), "{text}");
    };
    failed(
        eval("return redis.call('SET', 'a', '1')"),
        "ERR ACL failure in script: User app has no permissions to run the 'set' command script:",
    );
    failed(
        eval("return redis.call('GET', 'b')"),
        "ERR ACL failure in script: No permissions to access a key",
    );
    assert_eq!(eval("return redis.call('GET', 'a')"), Reply::Nil);
    let asked = "return {redis.acl_check_cmd('GET', 'a'), redis.acl_check_cmd('GET', 'b'), \
                 redis.acl_check_cmd('CONFIG', 'GET', 'a')}";
    // False is the end of a table that becomes an array.
    assert_eq!(eval(asked).items(), [Reply::Integer(1), Reply::Nil, Reply::Nil]);
    failed(
        eval("return redis.acl_check_cmd('nosuch')"),
        "ERR Invalid command passed to redis.acl_check_cmd()",
    );
    done(&mut app, "MULTI");
    app.command(&["EVAL", "return redis.call('GET', 'b')", "0"]).unwrap();
    failed(ask(&mut app, "EXEC").items()[0].clone(), "No permissions to access a key");
    refused(&mut app, "EVAL x 1 b", NO_KEY);
    let log = ask(&mut admin, "ACL LOG 10");
    let of_set = log.items().iter().find(|entry| field(entry, "object").text() == "set").unwrap();
    assert_eq!(field(of_set, "context").text(), "lua");
    assert!(field(of_set, "client-info").text().contains("cmd=eval"));
    server.shutdown().unwrap();
}

#[test]
fn a_waiter_that_lost_its_right_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    done(&mut admin, "ACL SETUSER app on nopass +@all ~*");
    let mut app = log_in(&address, "app");
    app.send(&["BLPOP", "list", "0"]).unwrap();
    wait_for_blocked(&mut admin, 1);
    done(&mut admin, "ACL SETUSER app resetkeys");
    done(&mut admin, "LPUSH list v");
    assert_eq!(app.read().unwrap(), Reply::Error(NO_KEY.into()));
    assert_eq!(ask(&mut admin, "LLEN list").integer(), Some(1));
    assert_eq!(ask(&mut app, "PING").text(), "PONG");
    assert!(ask(&mut admin, "INFO commandstats").text().contains("cmdstat_blpop:calls=0,"));
    server.shutdown().unwrap();
}

#[test]
fn subscribers_end_when_they_lose_a_channel_and_hear_nothing_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    for (subscribe, before, after, stays) in [
        ("SUBSCRIBE a:1", "&a:*", "&b:*", false),
        ("SSUBSCRIBE a:1", "&a:*", "", false),
        ("PSUBSCRIBE a:*", "&a:*", "&a:1", false),
        ("PSUBSCRIBE a:*", "allchannels", "&a:1", false),
        ("SUBSCRIBE a:1", "&a:* &b:*", "&a:1 &c", true),
        ("PSUBSCRIBE a:*", "&a:*", "&a:* &c", true),
        ("SUBSCRIBE a:1", "&a:1", "allchannels", true),
    ] {
        // One on each loop.
        let mut subscribers: Vec<RespClient> = (0..2)
            .map(|_| {
                done(&mut admin, &format!("ACL SETUSER app reset on nopass +@all {before}"));
                let mut client = log_in(&address, "app");
                client.send(&subscribe.split(' ').collect::<Vec<_>>()).unwrap();
                client.read().unwrap();
                client
            })
            .collect();
        let words = format!("ACL SETUSER app resetchannels {after}");
        done(&mut admin, words.trim_end());
        let publish = if subscribe.starts_with("SS") { "SPUBLISH a:1 m" } else { "PUBLISH a:1 m" };
        done(&mut admin, publish);
        for client in &mut subscribers {
            assert_eq!(client.read().is_ok(), stays, "{subscribe}: {before} -> {after}");
        }
    }
    // Who takes its own channels away still learns that it did.
    done(&mut admin, "ACL SETUSER app reset on nopass +@all &a");
    let mut app = log_in(&address, "app");
    ask(&mut app, "HELLO 3");
    ask(&mut app, "SUBSCRIBE a");
    assert_eq!(ask(&mut app, "ACL SETUSER app resetchannels").text(), "OK");
    assert!(ask_error(&mut app));
    server.shutdown().unwrap();
}

fn ask_error(client: &mut RespClient) -> bool {
    client.command(&["PING"]).is_err()
}

#[test]
fn a_deleted_user_is_gone_with_its_connections() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    done(&mut admin, "ACL SETUSER app on nopass +@all ~*");
    let mut apps: Vec<RespClient> = (0..3).map(|_| log_in(&address, "app")).collect();
    refused(&mut admin, "ACL DELUSER app default", "ERR The 'default' user cannot be removed");
    // Whoever deletes itself is told so.
    assert_eq!(ask(&mut apps[0], "ACL DELUSER app nosuch").integer(), Some(1));
    assert!(apps.iter_mut().all(ask_error));
    assert_eq!(ask(&mut admin, "ACL GETUSER app"), Reply::Nil);
    refused(&mut admin, "AUTH app x", "WRONGPASS invalid username-password pair or user is disabled.");
    // The same name again is another user.
    done(&mut admin, "ACL SETUSER app on nopass +ping");
    let mut app = log_in(&address, "app");
    assert_eq!(ask(&mut app, "PING").text(), "PONG");
    assert_eq!(ask(&mut admin, "CLIENT KILL USER app").integer(), Some(1));
    assert!(ask_error(&mut app));
    refused(&mut admin, "CLIENT KILL USER nosuch", "ERR No such user 'nosuch'");
    assert_eq!(ask(&mut admin, "PING").text(), "PONG");
    server.shutdown().unwrap();
}

#[test]
fn requirepass_is_the_password_of_default() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("requirepass", "first")]);
    const NO_AUTH: &str = "NOAUTH Authentication required.";
    let mut client = connect(&address);
    refused(&mut client, "PING", NO_AUTH);
    refused(&mut client, "AUTH wrong", "WRONGPASS invalid username-password pair or user is disabled.");
    done(&mut client, "AUTH first");
    done(&mut client, "CONFIG SET requirepass second");
    let mut other = connect(&address);
    refused(&mut other, "AUTH first", "WRONGPASS invalid username-password pair or user is disabled.");
    done(&mut other, "HELLO 3 AUTH default second");
    // The other way: the user's passwords decide, whatever requirepass says.
    done(&mut other, "ACL SETUSER default resetpass >third");
    let mut third = connect(&address);
    refused(&mut third, "GET k", NO_AUTH);
    done(&mut third, "AUTH third");
    let mut waits = connect(&address);
    refused(&mut waits, "PING", NO_AUTH);
    done(&mut third, "CONFIG SET requirepass ");
    assert_eq!(ask(&mut waits, "PING").text(), "PONG");
    refused(
        &mut waits,
        "AUTH anything",
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?",
    );
    // Off: new connections must log in as somebody else.
    done(&mut third, "ACL SETUSER other on nopass +@all ~*");
    done(&mut third, "ACL SETUSER default off");
    let mut fresh = connect(&address);
    refused(&mut fresh, "PING", NO_AUTH);
    done(&mut fresh, "AUTH other x");
    done(&mut fresh, "RESET");
    refused(&mut fresh, "PING", NO_AUTH);
    let log = ask(&mut third, "ACL LOG");
    let entry = log.items().last().unwrap();
    let shown = |name| field(entry, name).text();
    let expected = ("auth", "toplevel", "AUTH", "default");
    assert_eq!((&*shown("reason"), &*shown("context"), &*shown("object"), &*shown("username")), expected);
    server.shutdown().unwrap();
}

#[test]
fn users_come_from_the_configuration_and_go_back_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thali.conf");
    let text = format!(
        "port 0\nbind 127.0.0.1\nappendonly no\ndir {}\n# people\nuser alice on >pw (~a +get)\nuser gone on nopass\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let open = || {
        let mut config = Config::default();
        config.load_file(&file).unwrap();
        config.check().unwrap();
        let server = Server::start(config).unwrap();
        let address = server.addresses()[0].to_string();
        (server, address)
    };
    let (server, address) = open();
    let mut client = connect(&address);
    assert_eq!(ask(&mut client, "AUTH alice pw").text(), "OK");
    refused(&mut client, "GET b", NO_KEY);
    done(&mut client, "AUTH default x");
    for line in
        ["ACL DELUSER gone", "ACL SETUSER bob on >pw2 ~b +@all", "ACL SETUSER carol", "CONFIG REWRITE"]
    {
        done(&mut client, line);
    }
    let before = ask(&mut client, "ACL LIST");
    server.shutdown().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("user ")).collect();
    assert!(lines.len() == 3 && lines[0].starts_with("user alice on sanitize-payload #"), "{text}");
    assert!(text.contains("# people\nuser alice") && !text.contains("pw"), "{text}");
    let (server, address) = open();
    assert_eq!(ask(&mut connect(&address), "ACL LIST"), before);
    server.shutdown().unwrap();
}

#[test]
fn users_come_from_a_file_and_go_back_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.acl");
    let kept = "user alice on >pw ~* &* +@all\nuser bob on nopass +@all &b\n";
    std::fs::write(&file, kept).unwrap();
    let (server, address) = start(&dir, &[NO_FILE, ("aclfile", "users.acl")]);
    let mut admin = connect(&address);
    done(&mut admin, "AUTH alice pw");
    done(&mut admin, "ACL SETUSER eve on nopass +@all &e");
    done(&mut admin, "ACL SETUSER bob &c");
    let subscribed = |user: &str, channel: &str| {
        let mut client = log_in(&address, user);
        done(&mut client, &format!("SUBSCRIBE {channel}"));
        client
    };
    let (mut eve, mut bob, mut bob_too) =
        (subscribed("eve", "e"), subscribed("bob", "c"), subscribed("bob", "b"));
    done(&mut admin, "ACL LOAD");
    done(&mut admin, "PUBLISH b m");
    assert!(eve.read().is_err() && bob.read().is_err());
    assert_eq!(bob_too.read().unwrap().items()[2].text(), "m");
    // A file that is wrong changes nothing.
    std::fs::write(&file, format!("{kept}user bob on\n")).unwrap();
    refused(
        &mut admin,
        "ACL LOAD",
        "ERR WARNING: Duplicate user 'bob' found on line 3. WARNING: ACL errors detected, no change to the \
         previously active ACL rules was performed",
    );
    done(&mut admin, "ACL SETUSER zoe off -@all");
    done(&mut admin, "ACL SAVE");
    let lines = ask(&mut admin, "ACL LIST");
    let lines: Vec<String> = lines.items().iter().map(Reply::text).collect();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), lines.join("\n") + "\n");
    assert_eq!(lines.len(), 4);
    server.shutdown().unwrap();
    let both = config(dir.path(), &[("aclfile", "nosuch.acl")]);
    let error = Server::start(both).err().unwrap().to_string();
    assert!(error.contains("nosuch.acl': No such file or directory"), "{error}");
}

#[test]
fn who_must_be_logged_in_cannot_be_locked_out_by_mistake() {
    let start = |lines: &str| {
        let mut config = Config::default();
        config.load_text(lines, std::path::Path::new("thali.conf")).map_err(|error| error.to_string())?;
        config.check()
    };
    let check = |lines: &str, part: &str| {
        let error = start(lines).unwrap_err();
        assert!(error.contains(part), "{lines}: {error}");
    };
    check("user a on\nuser b +nosuch", "at line 2 of thali.conf");
    check("user b +nosuch", "Error in user declaration '+nosuch': Unknown command or category name in ACL");
    check("user a\nuser a", "Duplicate user found. A user can only be defined once in config files");
    check("user a (~a +get", "Unmatched parenthesis");
    check("user a\naclfile users.acl", "put them all into one of the two");
    // An address that others reach asks for a password of default, wherever it comes from.
    check("bind 0.0.0.0", "without a password");
    check("bind 0.0.0.0\nuser default on nopass ~* +@all", "without a password");
    assert_eq!(start("bind 0.0.0.0\nuser default on >pw ~* +@all"), Ok(()));
    assert_eq!(start("bind 0.0.0.0\nuser default off\nuser a on >pw ~* +@all"), Ok(()));
    let own = |lines: &str| {
        let mut config = Config::default();
        config.load_text(lines, std::path::Path::new("thali.conf")).unwrap();
        config.check_own_login().is_ok()
    };
    assert!(own("") && own("requirepass pw") && own("requirepass pw\nuser default on >pw ~* &* +@all"));
    assert!(!own("user default on >pw ~* &* +@all") && !own("user default off"));
}

#[test]
fn patterns_of_sort_need_all_keys_to_be_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[NO_FILE]);
    let mut admin = connect(&address);
    done(&mut admin, "MSET v1 1 w1 2");
    done(&mut admin, "RPUSH list 1");
    done(&mut admin, "ACL SETUSER u on nopass (+sort +sort_ro +eval ~list ~v*)");
    let mut client = log_in(&address, "u");
    let by = "ERR BY option of SORT denied due to insufficient ACL permissions.";
    let get = "ERR GET option of SORT denied due to insufficient ACL permissions.";
    for command in ["SORT", "SORT_RO"] {
        refused(&mut client, &format!("{command} list BY v*"), by);
        refused(&mut client, &format!("{command} list GET v*"), get);
        done(&mut client, &format!("{command} list BY nosort GET #"));
    }
    done(&mut admin, "ACL SETUSER u clearselectors (+sort ~list %W~*)");
    refused(&mut client, "SORT list GET w*", get);
    done(&mut admin, "ACL SETUSER u clearselectors (+sort ~list %R~*)");
    assert_eq!(ask(&mut client, "SORT list BY w* GET w*"), Reply::Array(vec![Reply::Bulk(b"2".to_vec())]));
    server.shutdown().unwrap();
}
