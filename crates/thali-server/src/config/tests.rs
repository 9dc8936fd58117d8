//! Claims about the configuration, as tables.

use std::path::Path;

use thali_commands::EventClass;
use thali_journal::Policy;

use super::table::{self, TABLE};
use super::*;

fn load(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    config.load_text(text, Path::new("redis.conf")).map_err(|error| error.to_string())?;
    Ok(config)
}

fn one(config: &Config, name: &str) -> String {
    let found = config.get(name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0].1.clone()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_default_is_canonical_and_every_name_is_its_own() {
    let config = Config::default();
    for (index, directive) in TABLE.iter().enumerate() {
        assert_eq!(table::find(directive.name), Some(index), "{} is there twice", directive.name);
        assert_eq!(directive.alias.map(table::find).unwrap_or(Some(index)), Some(index));
        let again = config.parse_value(index, &config.values[index]);
        assert_eq!(again.as_ref(), Ok(&config.values[index]), "{}", directive.name);
    }
    config.settings();
}

#[test]
fn defaults_that_a_person_would_choose() {
    let settings = Config::default().settings();
    assert_eq!(settings.bind, ["127.0.0.1"]);
    assert!(!settings.bind_given && settings.appendonly);
    assert_eq!(settings.appendfsync, Policy::Everysec);
    assert!(settings.dir.is_absolute() && settings.dir.ends_with("thali-data"));
    assert_eq!((settings.port, settings.http_port), (6379, 8379));
    assert!(settings.loops_together && settings.loops >= 1 && settings.worker_threads >= 1);
    assert_eq!(settings.maxmemory_policy, Eviction::Noeviction);
    assert_eq!(settings.save, []);
    assert_eq!(Config::default().with("appendonly", "no").unwrap().settings().save.len(), 3);
    assert_eq!(settings.limits.hash_max_listpack_entries, 512);
    assert_eq!(Config::default().check(), Ok(()));
}

/// Pairs as `name value`, separated by `|`; what CONFIG SET says.
#[test]
fn config_set_speaks_as_redis_does() {
    let failed = |name: &str, why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    let policies = "volatile-lru, volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, \
                    allkeys-random, noeviction";
    let cases = [
        ("maxmemory abc", "argument must be a memory value"),
        ("maxmemory 10x", "argument must be a memory value"),
        ("repl-backlog-size -1", "argument must be a memory value"),
        ("hz abc", "argument couldn't be parsed into an integer"),
        ("hz 99999999999999", "argument must be between 0 and 2147483647 inclusive"),
        ("maxclients 0", "argument must be between 1 and 4294967295 inclusive"),
        ("slowlog-log-slower-than -5", "argument must be between -1 and 9223372036854775807 inclusive"),
        ("proto-max-bulk-len 1", "argument must be between 1048576 and 9223372036854775807 inclusive"),
        ("maxmemory-policy foo", &format!("argument(s) must be one of the following: {policies}")),
        ("lazyfree-lazy-expire maybe", "argument must be 'yes' or 'no'"),
        ("databases 3", "can't set immutable config"),
        ("dir /tmp", "can't set protected config"),
        ("maxmemory 1mb|maxmemory 2mb", "duplicate parameter"),
        ("save abc", "Invalid save parameters"),
        ("save 900", "Invalid save parameters"),
        ("save 0 1", "Invalid save parameters"),
        (
            "client-output-buffer-limit normal a b c",
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit foo 1 2 3",
            "Invalid client class specified in buffer limit configuration.",
        ),
        ("client-output-buffer-limit normal 1", "Wrong number of arguments in buffer limit configuration."),
        ("notify-keyspace-events KEQ", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        ("oom-score-adj-values 1 2", "wrong number of arguments"),
        (
            "latency-tracking-info-percentiles 50 101",
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        ("maxmemory-clients 500%", "percentage argument must be less or equal to 100"),
    ];
    for (pairs, why) in cases {
        let pairs: Vec<(String, String)> = pairs
            .split('|')
            .map(|pair| pair.split_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let error = Config::default().set(&pairs).unwrap_err().to_string();
        assert_eq!(error, failed(&pairs[0].0, why));
    }
    let unknown = Config::default().set(&[("nope".into(), "1".into())]).unwrap_err();
    assert_eq!(unknown.to_string(), "ERR Unknown option or number of arguments for CONFIG SET - 'nope'");
}

#[test]
fn config_get_shows_the_canonical_form() {
    let cases = [
        ("maxmemory", "100mb", "104857600"),
        ("maxmemory", "2GB", "2147483648"),
        ("maxmemory", "3k", "3000"),
        ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
        ("lazyfree-lazy-expire", "YES", "yes"),
        ("maxmemory-clients", "5%", "5%"),
        ("save", "900 1 300 10", "900 1 300 10"),
        ("save", "", ""),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "g$lKE", "g$lKE"),
        ("notify-keyspace-events", "AKEm", "AKEm"),
        ("notify-keyspace-events", "", ""),
        ("shutdown-on-sigterm", "nosave force", "nosave force"),
        ("lua-time-limit", "100", "100"),
        ("requirepass", "", ""),
        (
            "client-output-buffer-limit",
            "normal 1mb 2mb 60 replica 0 0 0",
            "normal 1048576 2097152 60 slave 0 0 0 pubsub 33554432 8388608 60",
        ),
    ];
    for (name, value, expected) in cases {
        let mut config = Config::default();
        config.set(&[(name.into(), value.into())]).unwrap();
        assert_eq!(one(&config, name), expected, "{name} {value}");
    }
}

#[test]
fn config_set_changes_all_or_nothing() {
    let mut config = Config::default();
    let pairs = [("maxmemory-samples".into(), "3".into()), ("hz".into(), "foo".into())];
    assert!(config.set(&pairs).unwrap_err().to_string().contains("'hz'"));
    assert_eq!(one(&config, "maxmemory-samples"), "5");
}

#[test]
fn patterns_find_names_and_aliases() {
    let config = Config::default();
    let names = |pattern: &str| config.get(pattern).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("hash-max-*-VALUE"), ["hash-max-listpack-value", "hash-max-ziplist-value"]);
    assert_eq!(names("slaveof"), ["slaveof"]);
    assert_eq!(names("nothing"), [""; 0]);
    assert!(names("*").len() > TABLE.len());
}

#[test]
fn protected_directives_follow_their_switch() {
    let pair = [("dbfilename".to_owned(), "x.rdb".to_owned())];
    for (switch, elsewhere, here) in [("no", false, false), ("local", false, true), ("yes", true, true)] {
        let mut config = Config::default().with("enable-protected-configs", switch).unwrap();
        assert_eq!(config.set(&pair).is_ok(), elsewhere, "{switch}");
        assert_eq!(config.set_as(&pair, true).is_ok(), here, "{switch}");
    }
}

#[test]
fn files_are_read_as_redis_reads_them() {
    let config = load(
        "# comment\n\n  PORT 7000\nrequirepass \"a b\\\"c\"\nsave 900 1\nsave 300 10\nslave-read-only no\n\
         bind 127.0.0.1 -::1\nclient-output-buffer-limit pubsub 1mb 0 0\nloglevel 'debug'\n",
    )
    .unwrap();
    let settings = config.settings();
    assert_eq!(settings.port, 7000);
    assert_eq!(settings.requirepass, "a b\"c");
    assert_eq!(one(&config, "save"), "900 1 300 10");
    assert_eq!(one(&config, "replica-read-only"), "no");
    assert_eq!(settings.bind, ["127.0.0.1", "-::1"]);
    assert!(settings.bind_given);
    assert_eq!(settings.output_limit_pubsub.hard_bytes, 1 << 20);
    assert_eq!(settings.log_filter(), "trace");
    assert_eq!(one(&load("save 900 1\nsave \"\"\n").unwrap(), "save"), "");
}

#[test]
fn a_bad_file_names_its_line_and_directive() {
    let cases = [
        ("hz abc", 1, "hz abc", "argument couldn't be parsed into an integer"),
        ("port 7000\nfoo bar", 2, "foo bar", "Bad directive or wrong number of arguments"),
        ("hz \"1", 1, "hz \"1", "Unbalanced quotes in configuration line"),
        ("hz", 1, "hz", "wrong number of arguments"),
        ("hz 1 2", 1, "hz 1 2", "wrong number of arguments"),
        ("rename-command GET", 1, "rename-command GET", "Bad directive or wrong number of arguments"),
        ("appendfilename a/b", 1, "appendfilename a/b", "appendfilename can't be a path, just a filename"),
        ("appenddirname a/b", 1, "appenddirname a/b", "appenddirname can't be a path, just a dirname"),
        ("databases 0", 1, "databases 0", "argument must be between 1 and 2147483647 inclusive"),
    ];
    for (text, line, directive, why) in cases {
        let expected = format!(
            "\n*** FATAL CONFIG FILE ERROR (Thali) ***\nReading the configuration file, at line {line} of \
             redis.conf\n>>> '{directive}'\n{why}"
        );
        assert_eq!(load(text).unwrap_err(), expected);
    }
}

#[test]
fn includes_are_read_in_place_with_patterns() {
    let dir = std::env::temp_dir().join(format!("thali-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    write("a.part", "hz 20\nport 1\n");
    write("b.part", "hz 30\n");
    write("loop.conf", &format!("include {}\n", dir.join("loop.conf").display()));
    let at = |name: &str| dir.join(name).display().to_string();
    let config = load(&format!("include {}\nport 2\n", at("*.part"))).unwrap();
    assert_eq!((config.settings().hz, config.settings().port), (30, 2));
    assert!(load(&format!("include {}", at("*.none"))).is_ok());
    let missing = load(&format!("include {}", at("none.conf"))).unwrap_err();
    assert!(missing.starts_with("Fatal error, can't open config file '"), "{missing}");
    assert!(load(&format!("include {}", at("loop.conf"))).unwrap_err().contains("nested more than 16"));

    write("main.conf", "# mine\nport 7000\nhz 20\nport 7001\nsave 900 1\nsave 300 1\nuser x on\n");
    let mut config = Config::default();
    config.load_file(&dir.join("main.conf")).unwrap();
    config.set(&[("maxmemory".into(), "3mb".into()), ("requirepass".into(), "a \"b".into())]).unwrap();
    config.rewrite(&["user x off".into(), "user y on".into()]).unwrap();
    let text = std::fs::read_to_string(dir.join("main.conf")).unwrap();
    assert_eq!(
        text,
        "# mine\nport 7001\nhz 20\nsave 900 1 300 1\nuser x off\n# Generated by CONFIG REWRITE\n\
         requirepass \"a \\\"b\"\nmaxmemory 3mb\nuser y on\n"
    );
    assert_eq!(load(&text).unwrap().values, config.values);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn without_a_file_there_is_nothing_to_rewrite() {
    assert_eq!(Config::default().rewrite(&[]).unwrap_err(), "The server is running without a config file");
}

#[test]
fn every_value_survives_a_rewrite() {
    let mut config = Config::default();
    for (name, value) in
        [("logfile", "a b\t#\"\\\n"), ("unixsocketperm", "755"), ("bind", ""), ("dir", "/x y")]
    {
        config = config.with(name, value).unwrap();
    }
    let text = config.rewritten("", &[]);
    assert_eq!(load(&text).unwrap().values, config.values, "{text}");
}

#[test]
fn the_command_line_beats_the_environment_which_beats_the_defaults() {
    let args = strings(&[
        "--port",
        "7001",
        "--save",
        "",
        "--bind",
        "127.0.0.1",
        "::1",
        "--list-max-listpack-size",
        "-3",
    ]);
    let env = [
        ("THALI_PORT", "7002"),
        ("THALI_MAXMEMORY_POLICY", "allkeys-lfu"),
        ("THALI_NOPE", "1"),
        ("HOME", "/"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (config, unknown) = Config::from_sources(&args, env).unwrap();
    let settings = config.settings();
    assert_eq!(settings.port, 7001);
    assert_eq!(settings.maxmemory_policy, Eviction::AllkeysLfu);
    assert!(settings.save.is_empty());
    assert_eq!(settings.bind, ["127.0.0.1", "::1"]);
    assert_eq!(settings.limits.list_max_listpack_size, -3);
    assert_eq!(unknown, ["THALI_NOPE"]);
    assert_eq!(Config::from_sources(&strings(&["--hz=50"]), []).unwrap().0.settings().hz, 50);
    let in_one_word = strings(&["--save", "60 1 30 5", "--client-output-buffer-limit", "normal 20mb 0 0"]);
    let (config, _) = Config::from_sources(&in_one_word, []).unwrap();
    assert_eq!(one(&config, "save"), "60 1 30 5");
    assert!(one(&config, "client-output-buffer-limit").starts_with("normal 20971520 0 0"));
}

#[test]
fn arguments_are_read_as_redis_server_reads_them() {
    for (args, name, value) in [
        (&["--maxmemory 700mb", "--hz 50"][..], "maxmemory", "734003200"),
        (&["--proc-title-template", "--my--title", "--hz", "50"], "proc-title-template", "--my--title"),
        (&["--save", "--hz", "50"], "save", ""),
        (&["--hz", "50", "--save"], "save", ""),
        (&["--proc-title-template", "--save", "--save", "", "--hz", "1"], "proc-title-template", "--save"),
        (&["--shutdown-on-sigint", "force", "now", "nosave"], "shutdown-on-sigint", "nosave now force"),
    ] {
        let (config, _) = Config::of_redis_server().overridden(&strings(args), []).unwrap();
        assert_eq!(one(&config, name), value, "{args:?}");
    }
    let redis = Config::of_redis_server();
    assert_eq!(
        (one(&redis, "appendonly"), one(&redis, "save")),
        ("no".into(), "3600 1 300 100 60 10000".into())
    );
    assert!(!redis.settings().dir.ends_with("thali-data"));
}

#[test]
fn bad_arguments_and_environment_are_named() {
    let failing = |args: &[&str], env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::from_sources(&strings(args), env).unwrap_err().to_string()
    };
    let cases = [
        (failing(&["--foo", "bar"], &[]), "command line\n>>> 'foo \"bar\"'\nBad directive"),
        (failing(&["--hz"], &[]), "command line\n>>> 'hz'\nwrong number"),
        (
            failing(&["--port", "--loglevel", "verbose"], &[]),
            ">>> 'port \"--loglevel\" \"verbose\"'\nwrong number",
        ),
        (failing(&["--port", "--x", "--hz", "1"], &[]), ">>> 'port \"--x\"'\nargument couldn't be parsed"),
        (failing(&["--shutdown-on-sigint"], &[]), "argument(s) must be one of"),
        (failing(&["/no/such.conf"], &[]), "can't open config file '/no/such.conf'"),
        (failing(&[], &[("THALI_PORT", "x")]), "environment's THALI_PORT\n>>> 'port x'"),
    ];
    for (got, expected) in cases {
        assert!(got.contains(expected), "{got}\nexpected: {expected}");
    }
}

#[test]
fn what_cannot_be_honoured_stops_the_start() {
    let cases = [
        ("bind 0.0.0.0", Err("bind 0.0.0.0 lets other machines in without a password")),
        ("bind *", Err("bind * lets")),
        ("bind 0.0.0.0\nrequirepass x", Ok(())),
        ("bind 0.0.0.0\nprotected-mode no", Ok(())),
        ("bind 127.0.0.1 -::1 localhost", Ok(())),
        ("replicaof host 6379", Err("'replicaof' is not supported")),
        ("rename-command FLUSHALL \"\"\nrename-command CONFIG c0nf", Ok(())),
        ("rename-command NOSUCH x", Err("no such command in rename-command")),
        ("rename-command GET set", Err("target command name already exists")),
        ("loadmodule m.so", Err("'loadmodule' is not supported")),
        ("cluster-enabled yes", Err("'cluster-enabled yes' is not supported")),
    ];
    for (text, expected) in cases {
        match (load(text).unwrap().check(), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
}

#[test]
fn settings_follow_their_directives() {
    let config = load(
        "io-threads 4\nnotify-keyspace-events KEx\nappendfsync always\nunixsocket /tmp/s\nunixsocketperm 700\n\
         hz 9999\ngateway-cors \"https://a, https://b\"\nstore redis://x\ngateway-auth jwt\n",
    );
    let settings = config.unwrap().settings();
    assert_eq!(settings.loops, 4);
    let events = EventClass::KEYSPACE | EventClass::KEYEVENT | EventClass::EXPIRED;
    assert_eq!(settings.notify_keyspace_events, events);
    assert_eq!(settings.appendfsync, Policy::Always);
    assert_eq!(settings.unixsocketperm, Some(0o700));
    assert_eq!(settings.hz, 500);
    assert_eq!(settings.gateway_cors, ["https://a", "https://b"]);
    assert_eq!(settings.store.as_deref(), Some("redis://x"));
    assert_eq!(settings.gateway_auth, GatewayAuth::Jwt);
    assert_eq!(load("loops 3\nio-threads 4").unwrap().settings().loops, 3);
}

#[test]
fn soft_output_limits_need_time() {
    let limit = OutputLimit { hard_bytes: 100, soft_bytes: 10, soft_s: 2 };
    let mut since = None;
    assert!(limit.exceeded(101, &mut since, 0));
    assert!(!limit.exceeded(11, &mut since, 1000));
    assert!(!limit.exceeded(11, &mut since, 3000));
    assert!(limit.exceeded(11, &mut since, 3001));
    assert!(!limit.exceeded(10, &mut since, 3002) && since.is_none());
}
