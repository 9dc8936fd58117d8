//! Claims about rules, as tables: words in, description or refusal out.

use proptest::prelude::*;

use super::log::Log;
use super::user::{RuleError, Rules};
use super::{Denial, Event, Place, Reason};
use crate::table;

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

fn rules(line: &str) -> Rules {
    let mut rules = Rules::new(false);
    rules.apply_all(&words(line), false).unwrap_or_else(|error| panic!("{line}: {error}"));
    rules
}

fn text(rules: &Rules) -> String {
    String::from_utf8(rules.describe()).unwrap()
}

/// The description, without the flags that every one of these has.
#[track_caller]
fn check_text(line: &str, expected: &str) {
    assert_eq!(text(&rules(line)), format!("off sanitize-payload {expected}"), "{line}");
}

#[test]
fn a_description_is_canonical() {
    check_text("", "resetchannels -@all");
    check_text("allkeys allchannels allcommands", "~* &* +@all");
    check_text("~* &* +@all nocommands resetkeys resetchannels", "resetchannels -@all");
    check_text("~b ~a %R~r %W~w %RW~x %wr~y", "~b ~a %R~r %W~w ~x ~y resetchannels -@all");
    check_text("%R~foo %W~foo ~foo", "~foo resetchannels -@all");
    check_text("%R~* %W~*", "~* resetchannels -@all");
    check_text("&b &a &b", "resetchannels &b &a -@all");
    check_text(
        "(~a +get) (&* -@all +SET)",
        "resetchannels -@all (~a resetchannels -@all +get) (&* -@all +set)",
    );
    check_text("(~a +get) clearselectors ()", "resetchannels -@all (resetchannels -@all)");
}

#[test]
fn flags_and_passwords_have_their_words() {
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"; // of "foo"
    let check = |line: &str, expected: &str| {
        assert_eq!(text(&rules(line)), format!("{expected} resetchannels -@all"), "{line}");
    };
    check("on", "on sanitize-payload");
    check("ON NOPASS skip-sanitize-payload", "on nopass skip-sanitize-payload");
    check("skip-sanitize-payload sanitize-payload", "off sanitize-payload");
    check(">foo >foo", &format!("off sanitize-payload #{hash}"));
    check(&format!("nopass #{hash}"), &format!("off sanitize-payload #{hash}"));
    check(">foo <foo", "off sanitize-payload");
    check(&format!(">foo !{hash}"), "off sanitize-payload");
    check(">foo nopass", "off nopass sanitize-payload");
    check("nopass resetpass", "off sanitize-payload");
    check("on >foo ~a &b +get (+set) skip-sanitize-payload reset", "off sanitize-payload");
}

/// As Valkey 8 and Redis 7.2 keep the words; Redis 7.0 does it otherwise.
#[test]
fn words_about_commands_stay_in_order_less_those_made_void() {
    let check = |line: &str, expected: &str| check_text(line, &format!("resetchannels {expected}"));
    check("+@all -@hash -@slow +hget", "+@all -@hash -@slow +hget");
    check("+@all -@hash -@slow +hget -@hash", "+@all -@slow +hget -@hash");
    check("+@all -@slow +hget -@hash +@hash", "+@all -@slow +hget +@hash");
    check("-@string -@slow +@all", "+@all");
    check("-@all +@HASH +@hash +@HaSh", "-@all +@hash");
    check("-@all +HGET +hget +hGeT", "-@all +hget");
    check("+@hash +@slow +@set +@set +@slow +@hash", "-@all +@set +@slow +@hash");
    check("+hget -hset +hset -hget", "-@all +hset -hget");
    check("+client|list +client|list +config|get +config +acl|list -acl", "-@all +client|list +config -acl");
    check("+select|0 +select|0 +debug|segfault +debug", "-@all +select|0 +debug");
    check("-@all -@dangerous", "-@all -@dangerous");
    check("+config +config|get -config|set +config", "-@all +config");
}

#[test]
fn what_is_no_rule_is_refused_in_redis_words() {
    let check = |line: &str, expected: RuleError| {
        let words = words(line);
        let (last, first) = words.split_last().unwrap();
        let mut rules = Rules::new(false);
        first.iter().for_each(|word| rules.apply(word, false).unwrap());
        assert_eq!(rules.apply(last, false), Err(expected), "{line}");
    };
    for line in ["yes", "%~", "%", "%RR~a", "%X~a", ")", "~a\tb", "&a\tb", "+debug|", "+select|a\tb"] {
        check(line, RuleError::Syntax);
    }
    for line in [
        "+nosuch",
        "-nosuch",
        "+@nosuch",
        "-@nosuch",
        "+config|nosuch",
        "-config|nosuch",
        "-select|0",
        "+get|a|b",
        "+",
        "+@",
    ] {
        check(line, RuleError::UnknownCommand);
    }
    check("+config|get|maxmemory", RuleError::FirstArgOfSubcommand);
    check("~* ~a", RuleError::KeysAfterAll);
    check("&* &a", RuleError::ChannelsAfterAll);
    check("<foo", RuleError::NoSuchPassword);
    check("#abc", RuleError::BadHash);
    check(&format!("#{}", "A".repeat(64)), RuleError::BadHash);
    check(&format!("!{}", "a".repeat(64)), RuleError::NoSuchPassword);
}

#[test]
fn words_are_taken_all_or_none() {
    let mut rules = rules("+get");
    let before = rules.clone();
    let error = rules.apply_all(&words("+set ~a +nosuch"), false).unwrap_err();
    assert_eq!(error, "Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL");
    let error = rules.apply_all(&words("+set (~a +get"), false).unwrap_err();
    assert_eq!(error, "Unmatched parenthesis in acl selector starting at '(~a'.");
    let error = rules.apply_all(&words("(~a on)"), false).unwrap_err();
    assert_eq!(error, "Error in ACL SETUSER modifier '(~a on)': Syntax error");
    assert_eq!(rules, before);
}

#[test]
fn passwords_let_in_only_who_is_on() {
    let check = |line: &str, password: &str, expected: bool| {
        assert_eq!(rules(line).accepts(password.as_bytes()), expected, "{line}, {password}");
    };
    check("on >a >b", "a", true);
    check("on >a >b", "b", true);
    check("on >a >b", "c", false);
    check("on >a >b <a", "a", false);
    check(">a", "a", false);
    check("on nopass", "anything", true);
    check("nopass", "anything", false);
    check("on", "", false);
}

#[test]
fn a_command_runs_where_one_selector_allows_all_of_it() {
    use Denial::{Channel, Command, Key};
    let check = |line: &str, request: &str, expected: Result<(), Denial>| {
        let args = words(request);
        let (row, spec) = table::find_request(&args).unwrap();
        assert_eq!(rules(line).check(row, spec, &args), expected, "{line}: {request}");
    };
    check("+get ~a*", "GET abc", Ok(()));
    check("+get ~a*", "GET xbc", Err(Key(1)));
    check("+set ~a*", "GET abc", Err(Command));
    check("+mget ~a*", "MGET a b ac", Err(Key(2)));
    check("+@all %R~r* %W~w*", "COPY r w", Ok(()));
    check("+@all %R~r* %W~w*", "COPY w r", Err(Key(1)));
    check("+@all %R~x %W~x*", "INCR x", Err(Key(1)));
    check("+@all %W~x*", "LPUSH x 1", Ok(()));
    check("+@all %R~r* %W~w*", "EXISTS r w", Ok(()));
    check("+@all %R~r* %W~w*", "EXISTS r x", Err(Key(2)));
    check("(+get ~a) (+set ~b)", "GET b", Err(Key(1)));
    check("(+get ~a) (+set ~b)", "SET b 1", Ok(()));
    check("(+get ~a) (+set ~b)", "DEL b", Err(Command));
    check("(+get ~b) +get ~a", "GET b", Ok(()));
    check("+@all -config|set", "CONFIG SET a b", Err(Command));
    check("+@all -config|set", "CONFIG GET a", Ok(()));
    check("+config -config|set", "CONFIG GET a", Ok(()));
    check("+client|id", "CLIENT ID", Ok(()));
    check("+client|id", "CLIENT LIST", Err(Command));
    check("+select|0", "SELECT 0", Ok(()));
    check("+select|0", "SELECT 1", Err(Command));
    check("+select|0 -select", "SELECT 0", Err(Command));
    check("+debug|Sleep", "DEBUG SLEEP 0", Ok(()));
    check("", "AUTH a", Ok(()));
    check("", "PING", Err(Command));
    check("+publish &a*", "PUBLISH abc m", Ok(()));
    check("+publish &a*", "PUBLISH b a", Err(Channel(1)));
    check("+@all &a* &b", "SUBSCRIBE a b c", Err(Channel(3)));
    check("+@all &a* &b", "PSUBSCRIBE a*", Ok(()));
    check("+@all &a* &b", "PSUBSCRIBE ab", Err(Channel(1)));
    check("+@all &a*", "SSUBSCRIBE b", Err(Channel(1)));
    check("+@all &a*", "UNSUBSCRIBE b", Ok(()));
    check("+@all (+@all &a)", "PUBLISH b m", Err(Channel(1)));
    check("+@all ~rw*", "EVAL x 1 rw1", Ok(()));
    check("+@all ~rw*", "EVAL x 1 a", Err(Key(3)));
    check("+@all ~rw*", "EVAL x 3 rw a", Ok(())); // a wrong count: no keys, and an error anyway
}

#[test]
fn subscribers_lose_nothing_where_each_pattern_stays() {
    let check = |old: &str, new: &str, expected: bool| {
        assert_eq!(rules(new).covers_channels_of(&rules(old)), expected, "{old} -> {new}");
    };
    check("&a &b", "&b &c &a", true);
    check("&a &b", "&a (&b)", true);
    check("&a &b", "&*", true);
    check("&a", "&a*", false);
    check("&*", "&a", false);
    check("", "", true);
}

#[test]
fn like_refusals_are_one_entry() {
    let log = Log::default();
    let note = |object: &str, at_ms: u64, len_max: usize| {
        let event = Event {
            reason: Reason::Key,
            place: Place::TopLevel,
            object: object.as_bytes(),
            user: b"u",
            client: at_ms.to_string(),
        };
        log.note(event, at_ms, len_max);
    };
    let shown = || -> Vec<(u64, u64, String)> {
        let entries = log.newest(10).into_iter();
        entries.map(|e| (e.id, e.count, String::from_utf8_lossy(&e.object).into_owned())).collect()
    };
    note("a", 0, 3);
    note("b", 0, 3);
    note("a", 60_000, 3);
    assert_eq!(shown(), [(0, 2, "a".into()), (1, 1, "b".into())]);
    assert_eq!((log.newest(1)[0].begun_at_ms, &*log.newest(1)[0].client), (0, "60000"));
    note("a", 120_001, 3);
    note("c", 120_001, 3);
    assert_eq!(shown(), [(3, 1, "c".into()), (2, 1, "a".into()), (0, 2, "a".into())]);
    assert_eq!((log.count(Reason::Key), log.count(Reason::Auth)), (5, 0));
    note("d", 0, 0);
    assert_eq!(shown(), []);
}

#[test]
fn a_file_is_taken_whole_or_its_wrong_lines_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.acl");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        super::file::load(&path, false)
    };
    let users = load("user alice on nopass ~* +@all\r\n\nuser bob (~a  +get) (+set)\n").unwrap();
    assert_eq!(text(&users[&b"alice"[..]]), "on nopass sanitize-payload ~* resetchannels +@all");
    assert_eq!(users.len(), 2);
    let error = load(
        "user a on\nuser a off\nalice on\nuser b +nosuch >secret #secret ~* ~a\nuser\nuser c (~a\nUSER d on\n",
    )
    .unwrap_err();
    let at = |line: usize| format!("{}:{line}", path.display());
    let expected = [
        "WARNING: Duplicate user 'a' found on line 2. ".to_owned(),
        format!("{} should start with user keyword followed by the username. ", at(3)),
        format!(
            "{}: Error in applying operation '+nosuch': Unknown command or category name in ACL. ",
            at(4)
        ),
        format!("{}: The password hash must be exactly 64 characters", at(4)),
        format!("{} should start with", at(5)),
        format!("{}: Unmatched parenthesis in selector definition. ", at(6)),
        format!("{} should start with", at(7)),
        "WARNING: ACL errors detected, no change to the previously active ACL rules was performed".to_owned(),
    ];
    for part in expected {
        assert!(error.contains(&part), "{part}\nnot in\n{error}");
    }
    assert!(!error.contains("secret"), "{error}");
}

/// Words that are rules, whatever came before or not.
const WORDS: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    "sanitize-payload",
    "skip-sanitize-payload",
    ">a",
    ">b",
    "<a",
    "allkeys",
    "resetkeys",
    "~*",
    "~a*",
    "%R~r",
    "%W~r",
    "%RW~*",
    "%r~*",
    "~",
    "&*",
    "&a",
    "&b*",
    "resetchannels",
    "allchannels",
    "+@all",
    "-@all",
    "allcommands",
    "nocommands",
    "+@read",
    "-@write",
    "+@slow",
    "-@fast",
    "+@dangerous",
    "-@connection",
    "+get",
    "-get",
    "+config",
    "-config",
    "+config|get",
    "-config|set",
    "+client|id",
    "-client|kill",
    "+select|0",
    "+select|1",
    "-select",
    "+select",
    "clearselectors",
    "reset",
    "(~k +@read)",
    "(%R~* &x -@all +select|2)",
    "()",
];

proptest! {
    #[test]
    fn a_description_describes_itself(picks in prop::collection::vec(0..WORDS.len(), 0..24)) {
        let mut rules = Rules::new(false);
        for pick in picks {
            // Some are none here, as `~a` after `~*`.
            let _ = rules.apply(WORDS[pick].as_bytes(), false);
        }
        let described = text(&rules);
        let mut again = Rules::new(false);
        prop_assert_eq!(again.apply_all(&words(&described), false), Ok(()), "{}", described);
        prop_assert_eq!(&again, &rules, "{}", described);
        prop_assert_eq!(text(&again), described);
    }
}
