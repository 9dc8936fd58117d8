//! Every directive: its name, what it takes, its default, whether it may change at run time.
//!
//! Defaults are Redis 7.2's, except where the last group and the three lines marked `Thali:` say otherwise.
//! Directives that have no effect here are kept, since clients and suites ask for and set them.
//! SOURCE: redis 7.0.15 `CONFIG GET *`; redis 7.2 `config.c` and `redis.conf`; Valkey 8.0 `config.c`.

use super::kind::Kind::{self, *};

/// When a directive may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Runtime,
    /// At run time only as `enable-protected-configs` allows.
    Protected,
    Start,
}

#[derive(Debug)]
pub(super) struct Directive {
    pub name: &'static str,
    pub alias: Option<&'static str>,
    pub kind: Kind,
    pub default: &'static str,
    pub change: Change,
    /// CONFIG GET shows it to who names it in full, not to patterns.
    pub is_hidden: bool,
}

impl Directive {
    const fn alias(self, alias: &'static str) -> Self {
        Directive { alias: Some(alias), ..self }
    }

    const fn hidden(self) -> Self {
        Directive { is_hidden: true, ..self }
    }
}

const fn live(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    Directive { name, alias: None, kind, default, change: Change::Runtime, is_hidden: false }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    Directive { name, alias: None, kind, default, change: Change::Start, is_hidden: false }
}

const fn protected(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    Directive { name, alias: None, kind, default, change: Change::Protected, is_hidden: false }
}

const I32: i64 = i32::MAX as i64;
const U32: i64 = u32::MAX as i64;
const ANY: Kind = Int(0, i64::MAX);
const COUNT: Kind = Int(0, I32);
const ANY_SIGN: Kind = Int(i32::MIN as i64, I32);
const BYTES: Kind = Memory(0, i64::MAX);
const PORT: Kind = Int(0, 65535);
const PERCENT: Kind = Int(0, 1000);

pub(super) const SHUTDOWN: &[&str] = &["default", "save", "nosave", "now", "force"];
pub(super) const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];
const PROTECTION: &[&str] = &["no", "yes", "local"];
const FACILITIES: &[&str] =
    &["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"];

#[rustfmt::skip]
pub(super) static TABLE: &[Directive] = &[
    // network and clients
    // Thali: Redis has `* -::*`.
    live("bind", Bind, "127.0.0.1"),
    live("bind-source-addr", Text, ""),
    live("port", PORT, "6379"),
    fixed("unixsocket", Text, ""),
    fixed("unixsocketperm", Octal, "0"),
    fixed("unixsocketgroup", Text, ""),
    fixed("tcp-backlog", COUNT, "511"),
    live("tcp-keepalive", COUNT, "300"),
    fixed("socket-mark-id", Int(0, U32), "0"),
    live("timeout", COUNT, "0"),
    live("maxclients", Int(1, U32), "10000"),
    live("max-new-connections-per-cycle", Int(1, 1000), "10"),
    live("max-new-tls-connections-per-cycle", Int(1, 1000), "1"),
    live("protected-mode", Bool, "yes"),
    live("proto-max-bulk-len", Memory(1 << 20, i64::MAX), "536870912"),
    live("client-query-buffer-limit", Memory(1 << 20, i64::MAX), "1073741824"),
    live("client-output-buffer-limit", OutputLimits, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
    live("maxmemory-clients", MemoryOrPercent, "0"),
    fixed("io-threads", Int(1, 128), "1"),
    fixed("io-threads-do-reads", Bool, "no"),
    live("events-per-io-thread", COUNT, "2"),
    live("prefetch-batch-max-size", Int(0, 128), "16"),
    live("tracking-table-max-keys", ANY, "1000000"),
    live("import-mode", Bool, "no"), // Valkey 8.1

    // security
    live("requirepass", Text, ""),
    fixed("aclfile", Text, ""),
    live("acllog-max-len", ANY, "128"),
    live("acl-pubsub-default", Enum(&["allchannels", "resetchannels"]), "resetchannels"),
    fixed("enable-protected-configs", Enum(PROTECTION), "no"),
    fixed("enable-debug-command", Enum(PROTECTION), "no"),
    fixed("enable-module-command", Enum(PROTECTION), "no"),
    fixed("enable-debug-assert", Bool, "no").hidden(),
    live("hide-user-data-from-log", Bool, "yes"),

    // the process
    fixed("databases", Int(1, I32), "16"),
    fixed("daemonize", Bool, "no"),
    fixed("supervised", Enum(&["upstart", "systemd", "auto", "no"]), "no"),
    fixed("pidfile", Text, ""),
    live("loglevel", Enum(&["debug", "verbose", "notice", "warning", "nothing"]), "notice"),
    fixed("logfile", Text, ""),
    fixed("syslog-enabled", Bool, "no"),
    fixed("syslog-ident", Text, "redis"),
    fixed("syslog-facility", Enum(FACILITIES), "local0"),
    live("crash-log-enabled", Bool, "yes"),
    live("crash-memcheck-enabled", Bool, "yes"),
    live("use-exit-on-panic", Bool, "no").hidden(),
    live("watchdog-period", COUNT, "0").hidden(),
    live("debug-context", Text, "").hidden(),
    live("extended-redis-compatibility", Bool, "no"),
    live("availability-zone", Text, ""),
    fixed("always-show-logo", Bool, "no"),
    fixed("set-proc-title", Bool, "yes"),
    live("proc-title-template", Text, "{title} {listen-addr} {server-mode}"),
    fixed("disable-thp", Bool, "yes"),
    live("oom-score-adj", Enum(&["no", "yes", "relative", "absolute"]), "no"),
    live("oom-score-adj-values", OomScores, "0 200 800"),
    fixed("server_cpulist", Text, "").alias("server-cpulist"),
    fixed("bio_cpulist", Text, "").alias("bio-cpulist"),
    fixed("aof_rewrite_cpulist", Text, "").alias("aof-rewrite-cpulist"),
    fixed("bgsave_cpulist", Text, "").alias("bgsave-cpulist"),
    live("ignore-warnings", Text, ""),
    live("locale-collate", Text, ""),
    live("shutdown-timeout", COUNT, "10"),
    live("shutdown-on-sigint", EnumSet(SHUTDOWN), "default"),
    live("shutdown-on-sigterm", EnumSet(SHUTDOWN), "default"),
    live("hz", COUNT, "10"),
    live("dynamic-hz", Bool, "yes"),
    live("busy-reply-threshold", ANY, "5000").alias("lua-time-limit"),
    live("slowlog-log-slower-than", Int(-1, i64::MAX), "10000"),
    live("slowlog-max-len", ANY, "128"),
    live("latency-monitor-threshold", ANY, "0"),
    live("latency-tracking", Bool, "yes"),
    live("latency-tracking-info-percentiles", Percentiles, "50 99 99.9"),
    live("notify-keyspace-events", Events, ""),
    live("propagation-error-behavior", Enum(&["ignore", "panic", "panic-on-replicas"]), "ignore"),

    // memory
    live("maxmemory", BYTES, "0"),
    live("maxmemory-policy", Enum(POLICIES), "noeviction"),
    live("maxmemory-samples", Int(1, 64), "5"),
    live("maxmemory-eviction-tenacity", Int(0, 100), "10"),
    live("lfu-log-factor", COUNT, "10"),
    live("lfu-decay-time", COUNT, "1"),
    live("active-expire-effort", Int(1, 10), "1"),
    live("activerehashing", Bool, "yes"),
    live("activedefrag", Bool, "no"),
    live("active-defrag-ignore-bytes", Memory(1, i64::MAX), "104857600"),
    live("active-defrag-threshold-lower", PERCENT, "10"),
    live("active-defrag-threshold-upper", PERCENT, "100"),
    live("active-defrag-cycle-min", Int(1, 99), "1"),
    live("active-defrag-cycle-max", Int(1, 99), "25"),
    live("active-defrag-max-scan-fields", Int(1, i64::MAX), "1000"),
    live("jemalloc-bg-thread", Bool, "yes"),
    live("lazyfree-lazy-eviction", Bool, "no"),
    live("lazyfree-lazy-expire", Bool, "no"),
    live("lazyfree-lazy-server-del", Bool, "no"),
    live("lazyfree-lazy-user-del", Bool, "no"),
    live("lazyfree-lazy-user-flush", Bool, "no"),
    live("hash-max-listpack-entries", ANY, "512").alias("hash-max-ziplist-entries"),
    live("hash-max-listpack-value", BYTES, "64").alias("hash-max-ziplist-value"),
    live("list-max-listpack-size", Int(i32::MIN as i64, I32), "-2").alias("list-max-ziplist-size"),
    live("list-compress-depth", COUNT, "0"),
    live("set-max-intset-entries", ANY, "512"),
    live("set-max-listpack-entries", ANY, "128"),
    live("set-max-listpack-value", BYTES, "64"),
    live("zset-max-listpack-entries", ANY, "128").alias("zset-max-ziplist-entries"),
    live("zset-max-listpack-value", BYTES, "64").alias("zset-max-ziplist-value"),
    live("hll-sparse-max-bytes", BYTES, "3000"),
    live("stream-node-max-bytes", BYTES, "4096"),
    live("stream-node-max-entries", ANY, "100"),

    // durability
    protected("dir", Dir, "./thali-data"), // Thali: Redis has the working directory
    live("appendonly", Bool, "yes"), // Thali: Redis has `no`
    live("appendfsync", Enum(&["everysec", "always", "no"]), "everysec"),
    fixed("appendfilename", FileName, "appendonly.aof"),
    fixed("appenddirname", FileName, "appendonlydir"),
    live("no-appendfsync-on-rewrite", Bool, "no"),
    live("auto-aof-rewrite-percentage", COUNT, "100"),
    live("auto-aof-rewrite-min-size", BYTES, "67108864"),
    live("aof-load-truncated", Bool, "yes"),
    live("aof-use-rdb-preamble", Bool, "yes"),
    live("aof-timestamp-enabled", Bool, "no"),
    live("aof-disable-auto-gc", Bool, "no").hidden(),
    live("aof-rewrite-incremental-fsync", Bool, "yes"),
    live("save", Save, "3600 1 300 100 60 10000"),
    protected("dbfilename", FileName, "dump.rdb"),
    fixed("rdbchecksum", Bool, "yes"),
    live("rdbcompression", Bool, "yes"),
    live("rdb-del-sync-files", Bool, "no"),
    live("rdb-save-incremental-fsync", Bool, "yes"),
    live("rdb-key-save-delay", ANY_SIGN, "0").hidden(),
    live("key-load-delay", ANY_SIGN, "0").hidden(),
    live("loading-process-events-interval-bytes", Int(1024, I32), "2097152").hidden(),
    live("sanitize-dump-payload", Enum(&["no", "yes", "clients"]), "no"),
    live("stop-writes-on-bgsave-error", Bool, "yes"),

    // replication and cluster
    fixed("replicaof", ReplicaOf, "").alias("slaveof"),
    live("masterauth", Text, "").alias("primaryauth"),
    live("masteruser", Text, "").alias("primaryuser"),
    live("min-replicas-to-write", COUNT, "0").alias("min-slaves-to-write"),
    live("min-replicas-max-lag", COUNT, "10").alias("min-slaves-max-lag"),
    live("repl-backlog-size", Memory(1, i64::MAX), "1048576"),
    live("repl-backlog-ttl", ANY, "3600"),
    live("repl-disable-tcp-nodelay", Bool, "no"),
    live("repl-diskless-load", Enum(&["disabled", "on-empty-db", "swapdb"]), "disabled"),
    live("repl-diskless-sync", Bool, "yes"),
    live("repl-diskless-sync-delay", COUNT, "5"),
    live("repl-diskless-sync-max-replicas", COUNT, "0"),
    live("repl-ping-replica-period", Int(1, I32), "10").alias("repl-ping-slave-period"),
    live("repl-timeout", Int(1, I32), "60"),
    live("replica-announce-ip", Text, "").alias("slave-announce-ip"),
    live("replica-announce-port", PORT, "0").alias("slave-announce-port"),
    live("dual-channel-replication-enabled", Bool, "no"),
    live("replica-announced", Bool, "yes"),
    live("replica-ignore-disk-write-errors", Bool, "no"),
    live("replica-ignore-maxmemory", Bool, "yes").alias("slave-ignore-maxmemory"),
    live("replica-lazy-flush", Bool, "no").alias("slave-lazy-flush"),
    live("replica-priority", COUNT, "100").alias("slave-priority"),
    live("replica-read-only", Bool, "yes").alias("slave-read-only"),
    live("replica-serve-stale-data", Bool, "yes").alias("slave-serve-stale-data"),
    fixed("cluster-enabled", Bool, "no"),
    fixed("cluster-config-file", FileName, "nodes.conf"),
    live("cluster-blacklist-ttl", ANY, "60"),
    live("cluster-ping-interval", ANY, "0").hidden(),
    live("cluster-slot-stats-enabled", Bool, "no"),
    live("cluster-node-timeout", ANY, "15000"),
    live("cluster-migration-barrier", COUNT, "1"),
    live("cluster-require-full-coverage", Bool, "yes"),
    live("cluster-replica-validity-factor", COUNT, "10").alias("cluster-slave-validity-factor"),
    live("cluster-replica-no-failover", Bool, "no").alias("cluster-slave-no-failover"),
    live("cluster-allow-reads-when-down", Bool, "no"),
    live("cluster-allow-pubsubshard-when-down", Bool, "yes"),
    live("cluster-allow-replica-migration", Bool, "yes"),
    live("cluster-link-sendbuf-limit", BYTES, "0"),
    live("cluster-announce-ip", Text, ""),
    live("cluster-announce-client-ipv4", Text, ""),
    live("cluster-announce-client-ipv6", Text, ""),
    live("cluster-announce-hostname", Text, ""),
    live("cluster-announce-human-nodename", Text, ""),
    live("cluster-announce-port", PORT, "0"),
    live("cluster-announce-bus-port", PORT, "0"),
    live("cluster-announce-tls-port", PORT, "0"),
    live("cluster-preferred-endpoint-type", Enum(&["ip", "hostname", "unknown-endpoint"]), "ip"),
    fixed("cluster-port", PORT, "0"),

    // TLS
    live("tls-port", PORT, "0"),
    live("tls-cluster", Bool, "no"),
    live("tls-replication", Bool, "no"),
    live("tls-auth-clients", Enum(&["no", "yes", "optional"]), "yes"),
    live("tls-auth-clients-user", Enum(&["off", "CN"]), "off"), // Redis 8.6, Valkey 9
    live("tls-prefer-server-ciphers", Bool, "no"),
    live("tls-session-caching", Bool, "yes"),
    live("tls-session-cache-size", COUNT, "20480"),
    live("tls-session-cache-timeout", COUNT, "300"),
    live("tls-cert-file", Text, ""),
    live("tls-key-file", Text, ""),
    live("tls-key-file-pass", Text, ""),
    live("tls-client-cert-file", Text, ""),
    live("tls-client-key-file", Text, ""),
    live("tls-client-key-file-pass", Text, ""),
    live("tls-dh-params-file", Text, ""),
    live("tls-ca-cert-file", Text, ""),
    live("tls-ca-cert-dir", Text, ""),
    live("tls-protocols", Text, ""),
    live("tls-ciphers", Text, ""),
    live("tls-ciphersuites", Text, ""),

    // Thali's own
    fixed("loops", Int(0, 1024), "0"),
    live("loops-together", Enum(&["auto", "no"]), "auto"),
    fixed("worker-threads", Int(0, 1024), "0"),
    fixed("store", Text, ""),
    fixed("store-ca", Text, ""),
    fixed("store-cert", Text, ""),
    fixed("store-key", Text, ""),
    fixed("http-bind", Bind, "127.0.0.1"),
    fixed("http-port", PORT, "8379"),
    fixed("http-token", Text, ""),
    fixed("gateway-auth", Enum(&["none", "jwt"]), "none"),
    fixed("gateway-jwt-algorithm", Enum(&["hs256", "rs256", "es256"]), "hs256"),
    fixed("gateway-jwt-key", Text, ""),
    fixed("gateway-cors", Text, ""),
    fixed("gateway-recovery", Int(0, 86_400), "0"),
];

/// The index of a directive by its name or alias. `_` and `-` are one, for the environment's sake.
pub(super) fn find(name: &str) -> Option<usize> {
    let same = |known: &str| {
        known.len() == name.len()
            && known.bytes().zip(name.bytes()).all(|(a, b)| {
                a == b.to_ascii_lowercase() || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_'))
            })
    };
    TABLE.iter().position(|directive| same(directive.name) || directive.alias.is_some_and(same))
}
