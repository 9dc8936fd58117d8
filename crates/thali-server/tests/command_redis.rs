//! COMMAND of Thali and of redis-server 7.0, compared where 7.2 has not changed it. Needs redis-server in the PATH
//! (Debian: `apt-get install redis-server`).

use std::collections::{BTreeMap, BTreeSet};

use thali_testkit::{Reply, start_redis};

mod harness;

use harness::{ask, connect, start};

/// What COMMAND says of each command and subcommand.
fn infos(address: &str) -> BTreeMap<String, Vec<Reply>> {
    fn collect(info: &Reply, into: &mut BTreeMap<String, Vec<Reply>>) {
        into.insert(info.items()[0].text(), info.items().to_vec());
        info.items()[9].items().iter().for_each(|sub| collect(sub, into));
    }
    let mut client = connect(address);
    ask(&mut client, "HELLO 3");
    let mut all = BTreeMap::new();
    ask(&mut client, "COMMAND").items().iter().for_each(|info| collect(info, &mut all));
    all
}

/// Commands with other tips in 7.2 than in 7.0. SOURCE: Redis 7.0.15 and 7.2.4, `src/commands/*.json`.
const OTHER_TIPS: &[&str] = &[
    "acl|deluser",
    "acl|save",
    "acl|setuser",
    "client|setname",
    "config|resetstat",
    "config|rewrite",
    "latency|reset",
    "msetnx",
    "randomkey",
    "scan",
];

#[test]
fn each_command_has_redis_tips_in_redis_types() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let redis = start_redis(&[]).unwrap();
    let (here, there) = (infos(&address), infos(&redis.store));
    let tips = |info: &[Reply]| -> BTreeSet<String> { info[7].items().iter().map(Reply::text).collect() };
    let mut wrong = Vec::new();
    for (name, info) in &here {
        let Some(redis) = there.get(name) else { continue };
        if tips(info) != tips(redis) && !OTHER_TIPS.contains(&name.as_str()) {
            wrong.push(format!("{name}: {:?}, in Redis {:?}", tips(info), tips(redis)));
        }
        for at in [2, 6, 7, 9] {
            if std::mem::discriminant(&info[at]) != std::mem::discriminant(&redis[at]) {
                wrong.push(format!("{name}, field {at}: {:?}, in Redis {:?}", info[at], redis[at]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // One that 7.2 has changed.
    assert_eq!(tips(&here["latency|reset"]).len(), 2);
    server.shutdown().unwrap();
}

#[test]
fn each_command_does_with_its_keys_what_it_does_in_redis() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let redis = start_redis(&[]).unwrap();
    let (here, there) = (infos(&address), infos(&redis.store));
    // The notes are for people.
    let specs = |info: &[Reply]| -> Vec<Vec<(Reply, Reply)>> {
        let pairs = |spec: &Reply| match spec {
            Reply::Map(pairs) => pairs.iter().filter(|(field, _)| field.text() != "notes").cloned().collect(),
            other => panic!("{other:?}"),
        };
        info[8].items().iter().map(pairs).collect()
    };
    let not_keys = |info: &[Reply]| format!("{:?}", specs(info)).contains("not_key");
    let mut wrong = Vec::new();
    for (name, info) in &here {
        let Some(redis) = there.get(name) else { continue };
        if not_keys(redis) {
            assert!(specs(info).is_empty(), "channels of {name}");
        } else if specs(info) != specs(redis) {
            wrong.push(format!("{name}: {:?}, in Redis {:?}", specs(info), specs(redis)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (mut client, mut redis) = (connect(&address), connect(&redis.store));
    for request in
        ["LMOVE a b left left", "SET a b", "SET a b GET", "SINTERSTORE d a b", "DEL a b", "LMPOP 2 a b left"]
    {
        let line = format!("COMMAND GETKEYSANDFLAGS {request}");
        assert_eq!(ask(&mut client, &line), ask(&mut redis, &line), "{request}");
    }
    server.shutdown().unwrap();
}

/// The leaves of a command's arguments: name, type and token, and the specification of its key.
fn arguments(address: &str) -> BTreeMap<String, Vec<String>> {
    fn field<'r>(map: &'r Reply, name: &str) -> Option<&'r Reply> {
        match map {
            Reply::Map(pairs) => pairs.iter().find(|(field, _)| field.text() == name).map(|(_, value)| value),
            other => panic!("{other:?}"),
        }
    }
    fn leaves(arguments: &[Reply], into: &mut Vec<String>) {
        for argument in arguments {
            let word = |name: &str| field(argument, name).map(Reply::text);
            let (name, kind) = (word("name").unwrap().replace('_', "-"), word("type").unwrap());
            match field(argument, "arguments") {
                Some(inner) => {
                    into.extend(word("token").map(|token| format!("token {token}")));
                    leaves(inner.items(), into);
                }
                None if kind == "pure-token" => into.push(format!("token {}", word("token").unwrap())),
                None => {
                    into.extend(word("token").map(|token| format!("token {token}")));
                    into.push(format!("{kind} {name}"));
                }
            }
            if let Some(Reply::Integer(spec)) = field(argument, "key_spec_index") {
                into.push(format!("key specification {spec}"));
            }
        }
    }
    fn collect(name: String, doc: &Reply, into: &mut BTreeMap<String, Vec<String>>) {
        let mut all = Vec::new();
        leaves(field(doc, "arguments").map(Reply::items).unwrap_or_default(), &mut all);
        into.insert(name, all);
        if let Some(Reply::Map(pairs)) = field(doc, "subcommands") {
            pairs.iter().for_each(|(name, doc)| collect(name.text(), doc, into));
        }
    }
    let mut client = connect(address);
    ask(&mut client, "HELLO 3");
    let Reply::Map(docs) = ask(&mut client, "COMMAND DOCS") else { panic!("no map") };
    let mut all = BTreeMap::new();
    docs.iter().for_each(|(name, doc)| collect(name.text(), doc, &mut all));
    all
}

/// Commands whose arguments are others, or are called otherwise, in 7.2 or here.
const OTHER_ARGUMENTS: &[&str] = &[
    "acl|cat",
    "bitop",
    "client|kill",
    "command|getkeys",
    "command|getkeysandflags",
    "debug",
    "xgroup|create",
    "xgroup|createconsumer",
    "xgroup|delconsumer",
    "xgroup|destroy",
    "xgroup|setid",
    "xinfo|consumers",
    "xsetid",
    "zrank",
    "zrevrank",
];

#[test]
fn each_command_documents_the_arguments_that_it_has_in_redis() {
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "no")]);
    let redis = start_redis(&[]).unwrap();
    let (here, there) = (arguments(&address), arguments(&redis.store));
    let mut wrong = Vec::new();
    for (name, leaves) in &here {
        let Some(redis) = there.get(name) else { continue };
        if (leaves != redis) != OTHER_ARGUMENTS.contains(&name.as_str()) {
            wrong.push(format!("{name}: {leaves:?}, in Redis {redis:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.shutdown().unwrap();
}
