//! SUBSCRIBE and its relatives, PUBLISH, PUBSUB.

use thali_commands::{Categories, Channels, ErrorReply, Flags, Flow, Group, Outcome, Spec};
use thali_resp::Reply;

use super::Entry;
use crate::call::{Call, Core, Shared, Side};
use crate::pubsub::Kind;
use crate::session::{SessionState, Subscribed};
use crate::table::Handler;

const BASE: Spec = Spec {
    group: Group::PubSub,
    since: "2.0.0",
    complexity: "O(N) where N is the number of channels",
    arity: -2,
    flags: Flags::PUBSUB.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    categories: Categories::PUBSUB,
    ..Spec::BASE
};

const SUBSCRIBE: Spec = Spec {
    name: "subscribe",
    summary: "Listens for messages published to channels.",
    syntax: "channel [channel ...]",
    channels: Channels::All,
    ..BASE
};
const UNSUBSCRIBE: Spec = Spec {
    name: "unsubscribe",
    summary: "Stops listening to messages posted to channels.",
    syntax: "[channel [channel ...]]",
    arity: -1,
    ..BASE
};
const PSUBSCRIBE: Spec = Spec {
    name: "psubscribe",
    summary: "Listens for messages published to channels that match one or more patterns.",
    syntax: "pattern [pattern ...]",
    channels: Channels::Patterns,
    ..BASE
};
const PUNSUBSCRIBE: Spec = Spec {
    name: "punsubscribe",
    summary: "Stops listening to messages published to channels that match one or more patterns.",
    syntax: "[pattern [pattern ...]]",
    arity: -1,
    ..BASE
};
const SSUBSCRIBE: Spec = Spec {
    name: "ssubscribe",
    summary: "Listens for messages published to shard channels.",
    syntax: "shardchannel [shardchannel ...]",
    channels: Channels::All,
    since: "7.0.0",
    ..BASE
};
const SUNSUBSCRIBE: Spec = Spec {
    name: "sunsubscribe",
    summary: "Stops listening to messages posted to shard channels.",
    syntax: "[shardchannel [shardchannel ...]]",
    since: "7.0.0",
    arity: -1,
    ..BASE
};

const PUBLISH: Spec = Spec {
    name: "publish",
    summary: "Posts a message to a channel.",
    syntax: "channel message",
    complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total \
                 number of subscribed patterns (by any client).",
    arity: 3,
    flags: Flags::PUBSUB
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::FAST)
        .union(Flags::MAY_REPLICATE),
    channels: Channels::First,
    ..BASE
};
const SPUBLISH: Spec = Spec {
    name: "spublish",
    summary: "Post a message to a shard channel",
    syntax: "shardchannel message",
    since: "7.0.0",
    ..PUBLISH
};

const INSPECT: Spec = Spec {
    arity: -2,
    flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
    since: "2.8.0",
    ..BASE
};
const PUBSUB: Spec = Spec {
    name: "pubsub",
    summary: "A container for Pub/Sub commands.",
    complexity: "Depends on subcommand.",
    flags: Flags::empty(),
    subcommands: &[
        Spec { name: "channels", summary: "Returns the active channels.", syntax: "[pattern]", ..INSPECT },
        Spec {
            name: "numpat",
            summary: "Returns a count of unique pattern subscriptions.",
            arity: 2,
            ..INSPECT
        },
        Spec {
            name: "numsub",
            summary: "Returns a count of subscribers to channels.",
            syntax: "[channel [channel ...]]",
            ..INSPECT
        },
        Spec {
            name: "shardchannels",
            summary: "Returns the active shard channels.",
            syntax: "[pattern]",
            since: "7.0.0",
            ..INSPECT
        },
        Spec {
            name: "shardnumsub",
            summary: "Returns the count of subscribers of shard channels.",
            syntax: "[shardchannel [shardchannel ...]]",
            since: "7.0.0",
            ..INSPECT
        },
        Spec {
            name: "help",
            summary: "Returns helpful text about the different subcommands.",
            since: "6.2.0",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            categories: Categories::empty(),
            ..BASE
        },
    ],
    ..BASE
};

pub(super) const TABLE: &[Entry] = &[
    (&SUBSCRIBE, Handler::Server(|call, args, reply| subscribe(call, Kind::Channel, args, reply))),
    (&PSUBSCRIBE, Handler::Server(|call, args, reply| subscribe(call, Kind::Pattern, args, reply))),
    (&SSUBSCRIBE, Handler::Server(|call, args, reply| subscribe(call, Kind::Shard, args, reply))),
    (&UNSUBSCRIBE, Handler::Server(|call, args, reply| unsubscribe(call, Kind::Channel, args, reply))),
    (&PUNSUBSCRIBE, Handler::Server(|call, args, reply| unsubscribe(call, Kind::Pattern, args, reply))),
    (&SUNSUBSCRIBE, Handler::Server(|call, args, reply| unsubscribe(call, Kind::Shard, args, reply))),
    (&PUBLISH, Handler::Server(|call, args, reply| publish(call, Kind::Channel, args, reply))),
    (&SPUBLISH, Handler::Server(|call, args, reply| publish(call, Kind::Shard, args, reply))),
    (&PUBSUB, Handler::Server(pubsub)),
];

/// The words of the confirmations.
fn words(kind: Kind) -> (&'static [u8], &'static [u8]) {
    match kind {
        Kind::Channel => (b"subscribe", b"unsubscribe"),
        Kind::Pattern => (b"psubscribe", b"punsubscribe"),
        Kind::Shard => (b"ssubscribe", b"sunsubscribe"),
    }
}

fn confirm(reply: &mut Reply<'_>, word: &[u8], name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(word);
    reply.bulk_or_null(name);
    reply.integer(count as i64);
}

fn session_of<'a>(state: &'a mut Option<&mut SessionState>) -> Result<&'a mut SessionState, ErrorReply> {
    state.as_deref_mut().ok_or(ErrorReply::new("ERR This Redis command is not allowed from script"))
}

fn subscribe(call: &mut Call<'_, '_>, kind: Kind, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let state = session_of(&mut call.state)?;
    let subscribed = state.subscribed.get_or_insert_default();
    for name in &args[1..] {
        if subscribed.insert(kind, name) {
            call.side.subscriptions.subscribe(&call.shared.pubsub, kind, name, state.id);
        }
        confirm(reply, words(kind).0, Some(name), subscribed.count(kind));
    }
    state.publish_info();
    Ok(Flow::Done)
}

fn unsubscribe(call: &mut Call<'_, '_>, kind: Kind, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let state = session_of(&mut call.state)?;
    let subscribed = state.subscribed.get_or_insert_default();
    let names: Vec<Box<[u8]>> = match args.len() {
        1 => subscribed.of(kind).iter().cloned().collect(),
        _ => args[1..].iter().map(|name| (*name).into()).collect(),
    };
    if names.is_empty() {
        confirm(reply, words(kind).1, None, subscribed.count(kind));
    }
    for name in &names {
        leave(call.shared, call.side, subscribed, state.id, kind, name);
        confirm(reply, words(kind).1, Some(name), subscribed.count(kind));
    }
    if subscribed.is_empty() {
        state.subscribed = None;
    }
    state.publish_info();
    Ok(Flow::Done)
}

fn leave(shared: &Shared, side: &mut Side, subscribed: &mut Subscribed, id: u64, kind: Kind, name: &[u8]) {
    if subscribed.remove(kind, name) {
        side.subscriptions.unsubscribe(&shared.pubsub, kind, name, id);
    }
}

/// Ends all of a session's subscriptions without a word: RESET, and a connection that ends.
pub(crate) fn unsubscribe_all(core: &mut Core, state: &mut SessionState) {
    let Some(mut subscribed) = state.subscribed.take() else { return };
    for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
        for name in std::mem::take(subscribed.of(kind)) {
            core.side.subscriptions.unsubscribe(&core.shared.pubsub, kind, &name, state.id);
        }
    }
    state.publish_info();
}

fn publish(call: &mut Call<'_, '_>, kind: Kind, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let receivers = call.side.publish(call.shared, kind, args[1], args[2]);
    call.stats().published.add(1);
    reply.integer(receivers as i64);
    Ok(Flow::Done)
}

fn pubsub(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let pubsub = &call.shared.pubsub;
    let list = |reply: &mut Reply<'_>, kind: Kind| -> Outcome {
        if args.len() > 3 {
            return Err(ErrorReply::wrong_arity("pubsub|channels"));
        }
        let names = pubsub.active(kind, args.get(2).copied());
        reply.array(names.len());
        names.iter().for_each(|name| reply.bulk(name));
        Ok(Flow::Done)
    };
    // Name after name with its count, flat in RESP3, too.
    let counts = |reply: &mut Reply<'_>, kind: Kind| {
        reply.array((args.len() - 2) * 2);
        for name in &args[2..] {
            reply.bulk(name);
            reply.integer(pubsub.subscribers(kind, name) as i64);
        }
    };
    match args[1].to_ascii_lowercase().as_slice() {
        b"channels" => return list(reply, Kind::Channel),
        b"shardchannels" => return list(reply, Kind::Shard),
        b"numsub" => counts(reply, Kind::Channel),
        b"shardnumsub" => counts(reply, Kind::Shard),
        b"numpat" => reply.integer(pubsub.len(Kind::Pattern) as i64),
        _ => super::help(
            reply,
            "PUBSUB",
            &[
                (
                    "CHANNELS [<pattern>]",
                    "Return the currently active channels matching a <pattern> (default: '*').",
                ),
                ("NUMPAT", "Return number of subscriptions to patterns."),
                ("NUMSUB [<channel> ...]", "Return the number of subscribers for the specified channels."),
                ("SHARDCHANNELS [<pattern>]", "Return the currently active shard level channels."),
                ("SHARDNUMSUB [<shardchannel> ...]", "Return the number of subscribers of shard channels."),
            ],
        ),
    }
    Ok(Flow::Done)
}
