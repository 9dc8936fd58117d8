//! The values that the server works with, typed once after each change instead of at every use.

use std::path::PathBuf;
use std::time::Duration;

use thali_commands::EventClass;
use thali_data::Limits;
use thali_journal::Policy;
use thali_keyspace::{By, Lfu, Preference, Uses};

use super::Config;
use super::kind::events;

/// `client-output-buffer-limit` of one class of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes that end the connection at once; 0: none.
    pub hard_bytes: u64,
    /// Bytes that end it when exceeded for longer than `soft_s`; 0: none.
    pub soft_bytes: u64,
    pub soft_s: u64,
}

impl OutputLimit {
    /// The hard limit, without bound where there is none.
    pub fn hard_bytes_or_max(&self) -> usize {
        match self.hard_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }

    /// Whether a client with this many unsent bytes is to be closed. `since_ms` remembers when it went over
    /// the soft limit.
    pub fn exceeded(&self, bytes: u64, since_ms: &mut Option<u64>, now_ms: u64) -> bool {
        if self.hard_bytes > 0 && bytes > self.hard_bytes {
            return true;
        }
        if self.soft_bytes == 0 || bytes <= self.soft_bytes {
            *since_ms = None;
            return false;
        }
        now_ms.saturating_sub(*since_ms.get_or_insert(now_ms)) > self.soft_s * 1000
    }
}

/// A limit in bytes, or as a part of `maxmemory`; 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    Bytes(u64),
    Percent(u64),
}

impl MemoryLimit {
    fn parse(text: &str) -> Self {
        let number = |text: &str| text.parse().expect("checked by the table");
        text.strip_suffix('%').map_or_else(|| Self::Bytes(number(text)), |text| Self::Percent(number(text)))
    }

    /// Bytes; 0: no limit.
    pub fn of(self, maxmemory: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (u128::from(maxmemory) * u128::from(percent) / 100) as u64,
        }
    }
}

/// One of `save`'s rules: a snapshot after `seconds` with at least `changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveRule {
    pub seconds: u64,
    pub changes: u64,
}

/// `maxmemory-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    Noeviction,
}

impl Eviction {
    const ALL: [Eviction; 8] = [
        Eviction::VolatileLru,
        Eviction::VolatileLfu,
        Eviction::VolatileRandom,
        Eviction::VolatileTtl,
        Eviction::AllkeysLru,
        Eviction::AllkeysLfu,
        Eviction::AllkeysRandom,
        Eviction::Noeviction,
    ];

    /// The name in redis.conf.
    pub fn name(self) -> &'static str {
        let at = Self::ALL.iter().position(|policy| *policy == self).expect("ALL lists every policy");
        super::table::POLICIES[at]
    }

    /// Which keys go first; `None`: none does.
    pub fn preference(self) -> Option<Preference> {
        let by = match self {
            Self::VolatileLru | Self::AllkeysLru | Self::VolatileLfu | Self::AllkeysLfu => By::Uses,
            Self::VolatileRandom | Self::AllkeysRandom => By::Chance,
            Self::VolatileTtl => By::TimeToLive,
            Self::Noeviction => return None,
        };
        Some(Preference { by, only_volatile: self.name().starts_with("volatile-") })
    }

    fn counts_uses(self) -> bool {
        matches!(self, Self::VolatileLfu | Self::AllkeysLfu)
    }

    fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|policy| policy.name() == name).expect("checked by the table")
    }
}

impl std::fmt::Display for Eviction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// `gateway-auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayAuth {
    None,
    Jwt,
}

/// `tls-auth-clients`: whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    No,
    /// One that is shown must be good.
    Optional,
    Yes,
}

/// The `tls-*` directives.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// 0: none.
    pub port: u16,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub ca_cert_file: Option<PathBuf>,
    pub ca_cert_dir: Option<PathBuf>,
    pub auth_clients: ClientCertificates,
    /// `tls-auth-clients-user CN`.
    pub names_users: bool,
    /// Empty: all that there are.
    pub protocols: Vec<String>,
    pub ciphers: String,
    pub ciphersuites: String,
    pub prefer_server_ciphers: bool,
    pub session_caching: bool,
    /// 0: no bound of the administrator's.
    pub session_cache_len_max: usize,
    pub session_cache_timeout: Duration,
    /// Steps of handshakes in one turn of a loop.
    pub handshakes_per_cycle_max: usize,
    /// Directives that are set and change nothing.
    pub without_effect: Vec<&'static str>,
}

/// A snapshot of the configuration. Names are those of redis.conf; where a unit matters it is the last word.
#[derive(Clone, Debug)]
pub struct Settings {
    pub bind: Vec<String>,
    /// Somebody chose `bind`; protected mode trusts them.
    pub bind_given: bool,
    pub port: u16,
    pub tls: TlsSettings,
    pub unixsocket: Option<PathBuf>,
    pub unixsocketperm: Option<u32>,
    pub tcp_backlog: i32,
    pub tcp_keepalive_s: u64,
    pub timeout_s: u64,
    pub maxclients: usize,
    pub protected_mode: bool,
    pub requirepass: String,
    /// The file of users.
    pub aclfile: Option<PathBuf>,
    pub acllog_max_len: usize,
    /// New users may use all channels.
    pub acl_pubsub_all: bool,
    pub databases: u32,
    pub proto_max_bulk_len: usize,
    pub client_query_buffer_limit: usize,
    pub output_limit_normal: OutputLimit,
    pub output_limit_replica: OutputLimit,
    pub output_limit_pubsub: OutputLimit,
    pub maxmemory_clients: MemoryLimit,
    /// Keys whose readers are noted for client-side caching; 0: any count.
    pub tracking_table_max_keys: usize,
    /// Keys whose time is over stay, for who copies data in.
    pub import_mode: bool,
    /// Event loops of the store; never 0.
    pub loops: usize,
    /// One thread runs all of them where that suffices.
    pub loops_together: bool,
    /// Threads of the layers above the store; never 0.
    pub worker_threads: usize,

    pub maxmemory: u64,
    pub maxmemory_policy: Eviction,
    pub maxmemory_samples: usize,
    pub maxmemory_eviction_tenacity: u32,
    pub lazyfree_lazy_eviction: bool,
    pub lfu_log_factor: u32,
    pub lfu_decay_time: u32,
    pub limits: Limits,
    pub notify_keyspace_events: EventClass,
    pub active_expire_effort: u32,

    pub dir: PathBuf,
    pub appendonly: bool,
    pub appendfsync: Policy,
    pub appenddirname: String,
    pub appendfilename: String,
    pub aof_load_truncated: bool,
    /// Bases are in RDB form, else requests.
    pub aof_use_rdb_preamble: bool,
    /// Files that a rewrite supersedes stay.
    pub aof_disable_auto_gc: bool,
    pub save: Vec<SaveRule>,
    pub dbfilename: String,
    pub rdbcompression: bool,
    pub rdbchecksum: bool,
    pub rdb_save_incremental_fsync: bool,
    /// A pause after each key that a snapshot saves, for tests.
    pub rdb_key_save_delay: Duration,
    /// A pause after each key that is loaded, for tests.
    pub key_load_delay: Duration,
    pub stop_writes_on_bgsave_error: bool,
    pub auto_aof_rewrite_percentage: u32,
    pub auto_aof_rewrite_min_size: u64,

    /// 1 to 500.
    pub hz: u32,
    pub loglevel: String,
    pub shutdown_on_sigint: Vec<String>,
    pub shutdown_on_sigterm: Vec<String>,
    pub oom_score_adj: String,
    /// The first of `oom-score-adj-values`; the others are for processes that are not here.
    pub oom_score_adj_value: i32,
    /// Empty: the standard output.
    pub logfile: String,
    pub pidfile: String,
    pub busy_reply_threshold_ms: u64,
    /// Microseconds; 0 logs everything, a negative value nothing.
    pub slowlog_log_slower_than_us: i64,
    pub slowlog_max_len: usize,
    /// 0: off.
    pub latency_monitor_threshold_ms: u64,
    pub latency_tracking: bool,
    /// What INFO latencystats shows, in percent.
    pub latency_percentiles: Vec<f64>,
    pub enable_debug_command: String,

    /// The store's URL; `None`: the embedded one.
    pub store: Option<String>,
    /// Files for a store over TLS: whom to believe, and what to show it.
    pub store_ca: Option<PathBuf>,
    pub store_cert: Option<PathBuf>,
    pub store_key: Option<PathBuf>,
    pub http_bind: Vec<String>,
    pub http_port: u16,
    pub http_token: Option<String>,
    pub gateway_auth: GatewayAuth,
    pub gateway_jwt_algorithm: String,
    /// The secret, or the public key in PEM.
    pub gateway_jwt_key: Option<String>,
    /// Origins that may open sockets, or `*`.
    pub gateway_cors: Vec<String>,
    /// How long a socket that dropped off finds its session again; 0 is never.
    pub gateway_recovery_s: u64,
}

impl Settings {
    /// How fast counters of uses change; `None`: the policy counts none.
    pub fn lfu(&self) -> Option<Lfu> {
        let lfu = Lfu { log_factor: self.lfu_log_factor, decay_minutes: self.lfu_decay_time };
        self.maxmemory_policy.counts_uses().then_some(lfu)
    }

    /// How uses of keys are noted and read at a moment.
    pub fn uses(&self, now_ms: u64) -> Uses {
        Uses::new(now_ms, self.lfu())
    }

    /// The file that dumps are written to and loaded from.
    pub fn dump_path(&self) -> PathBuf {
        self.dir.join(&self.dbfilename)
    }

    /// The limit of a client's output by its class: listeners are sent what they did not ask for.
    pub fn output_limit(&self, is_listener: bool) -> &OutputLimit {
        if is_listener { &self.output_limit_pubsub } else { &self.output_limit_normal }
    }

    /// `loglevel` as a filter for tracing.
    pub fn log_filter(&self) -> &'static str {
        match self.loglevel.as_str() {
            "debug" => "trace",
            "verbose" => "debug",
            "notice" => "info",
            "warning" => "warn",
            _ => "off",
        }
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let c = config;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let [output_limit_normal, output_limit_replica, output_limit_pubsub] = output_limits(c);
        Settings {
            bind: c.words("bind"),
            bind_given: c.is_given("bind"),
            port: c.number("port"),
            tls: tls(c),
            unixsocket: c.some("unixsocket").map(PathBuf::from),
            unixsocketperm: u32::from_str_radix(c.text("unixsocketperm"), 8).ok().filter(|mode| *mode > 0),
            tcp_backlog: c.number("tcp-backlog"),
            tcp_keepalive_s: c.number("tcp-keepalive"),
            timeout_s: c.number("timeout"),
            maxclients: c.number("maxclients"),
            protected_mode: c.flag("protected-mode"),
            requirepass: c.text("requirepass").to_owned(),
            aclfile: c.some("aclfile").map(|path| from_dir(c, path)),
            acllog_max_len: c.number("acllog-max-len"),
            acl_pubsub_all: c.text("acl-pubsub-default") == "allchannels",
            databases: c.number("databases"),
            proto_max_bulk_len: c.number("proto-max-bulk-len"),
            client_query_buffer_limit: c.number("client-query-buffer-limit"),
            output_limit_normal,
            output_limit_replica,
            output_limit_pubsub,
            maxmemory_clients: MemoryLimit::parse(c.text("maxmemory-clients")),
            tracking_table_max_keys: c.number("tracking-table-max-keys"),
            import_mode: c.flag("import-mode"),
            loops: loops(c, cores),
            loops_together: c.text("loops-together") == "auto",
            worker_threads: Some(c.number("worker-threads")).filter(|n| *n > 0).unwrap_or(cores),
            maxmemory: c.number("maxmemory"),
            maxmemory_policy: Eviction::parse(c.text("maxmemory-policy")),
            maxmemory_samples: c.number("maxmemory-samples"),
            maxmemory_eviction_tenacity: c.number("maxmemory-eviction-tenacity"),
            lazyfree_lazy_eviction: c.flag("lazyfree-lazy-eviction"),
            lfu_log_factor: c.number("lfu-log-factor"),
            lfu_decay_time: c.number("lfu-decay-time"),
            limits: limits(c),
            notify_keyspace_events: events(c.text("notify-keyspace-events")).expect("checked by the table"),
            active_expire_effort: c.number("active-expire-effort"),
            dir: PathBuf::from(c.text("dir")),
            appendonly: c.flag("appendonly"),
            appendfsync: match c.text("appendfsync") {
                "always" => Policy::Always,
                "no" => Policy::No,
                _ => Policy::Everysec,
            },
            appenddirname: c.text("appenddirname").to_owned(),
            appendfilename: c.text("appendfilename").to_owned(),
            aof_load_truncated: c.flag("aof-load-truncated"),
            aof_use_rdb_preamble: c.flag("aof-use-rdb-preamble"),
            aof_disable_auto_gc: c.flag("aof-disable-auto-gc"),
            save: save_rules(c),
            dbfilename: c.text("dbfilename").to_owned(),
            rdbcompression: c.flag("rdbcompression"),
            rdbchecksum: c.flag("rdbchecksum"),
            rdb_save_incremental_fsync: c.flag("rdb-save-incremental-fsync"),
            rdb_key_save_delay: delay(c.number("rdb-key-save-delay")),
            key_load_delay: delay(c.number("key-load-delay")),
            stop_writes_on_bgsave_error: c.flag("stop-writes-on-bgsave-error"),
            auto_aof_rewrite_percentage: c.number("auto-aof-rewrite-percentage"),
            auto_aof_rewrite_min_size: c.number("auto-aof-rewrite-min-size"),
            hz: c.number::<u32>("hz").clamp(1, 500),
            loglevel: c.text("loglevel").to_owned(),
            shutdown_on_sigint: c.words("shutdown-on-sigint"),
            shutdown_on_sigterm: c.words("shutdown-on-sigterm"),
            oom_score_adj: c.text("oom-score-adj").to_owned(),
            oom_score_adj_value: c.words("oom-score-adj-values")[0].parse().expect("checked by the table"),
            logfile: c.text("logfile").to_owned(),
            pidfile: c.text("pidfile").to_owned(),
            busy_reply_threshold_ms: c.number("busy-reply-threshold"),
            slowlog_log_slower_than_us: c.number("slowlog-log-slower-than"),
            slowlog_max_len: c.number("slowlog-max-len"),
            latency_monitor_threshold_ms: c.number("latency-monitor-threshold"),
            latency_tracking: c.flag("latency-tracking"),
            latency_percentiles: c
                .words("latency-tracking-info-percentiles")
                .iter()
                .map(|percent| percent.parse().expect("checked by the table"))
                .collect(),
            enable_debug_command: c.text("enable-debug-command").to_owned(),
            store: c.some("store"),
            store_ca: c.some("store-ca").map(PathBuf::from),
            store_cert: c.some("store-cert").map(PathBuf::from),
            store_key: c.some("store-key").map(PathBuf::from),
            http_bind: c.words("http-bind"),
            http_port: c.number("http-port"),
            http_token: c.some("http-token"),
            gateway_auth: if c.text("gateway-auth") == "jwt" { GatewayAuth::Jwt } else { GatewayAuth::None },
            gateway_jwt_algorithm: c.text("gateway-jwt-algorithm").to_owned(),
            gateway_jwt_key: c.some("gateway-jwt-key"),
            gateway_cors: c
                .text("gateway-cors")
                .split([' ', ','])
                .filter(|o| !o.is_empty())
                .map(Into::into)
                .collect(),
            gateway_recovery_s: c.number("gateway-recovery"),
        }
    }
}

/// `loops`; else `io-threads`, where somebody set it; else one a core.
fn loops(c: &Config, cores: usize) -> usize {
    match (c.number("loops"), c.number("io-threads")) {
        (0, threads) if c.is_given("io-threads") => threads,
        (0, _) => cores,
        (loops, _) => loops,
    }
}

/// As in Redis, which goes to `dir` where somebody set it: a relative path begins there, else where the
/// process stands.
fn from_dir(c: &Config, path: String) -> PathBuf {
    if c.is_given("dir") { PathBuf::from(c.text("dir")).join(path) } else { path.into() }
}

fn tls(c: &Config) -> TlsSettings {
    const WITHOUT_EFFECT: [&str; 7] = [
        "tls-key-file-pass",
        "tls-client-cert-file",
        "tls-client-key-file",
        "tls-client-key-file-pass",
        "tls-dh-params-file",
        "tls-replication",
        "tls-cluster",
    ];
    let path = |name: &str| c.some(name).map(|path| from_dir(c, path));
    TlsSettings {
        port: c.number("tls-port"),
        cert_file: path("tls-cert-file"),
        key_file: path("tls-key-file"),
        ca_cert_file: path("tls-ca-cert-file"),
        ca_cert_dir: path("tls-ca-cert-dir"),
        auth_clients: match c.text("tls-auth-clients") {
            "no" => ClientCertificates::No,
            "optional" => ClientCertificates::Optional,
            _ => ClientCertificates::Yes,
        },
        names_users: c.text("tls-auth-clients-user") == "CN",
        protocols: c.words("tls-protocols"),
        ciphers: c.text("tls-ciphers").to_owned(),
        ciphersuites: c.text("tls-ciphersuites").to_owned(),
        prefer_server_ciphers: c.flag("tls-prefer-server-ciphers"),
        session_caching: c.flag("tls-session-caching"),
        session_cache_len_max: c.number("tls-session-cache-size"),
        session_cache_timeout: Duration::from_secs(c.number("tls-session-cache-timeout")),
        handshakes_per_cycle_max: c.number("max-new-tls-connections-per-cycle"),
        without_effect: WITHOUT_EFFECT
            .into_iter()
            .filter(|name| !matches!(c.text(name), "" | "no"))
            .collect(),
    }
}

fn limits(c: &Config) -> Limits {
    Limits {
        hash_max_listpack_entries: c.number("hash-max-listpack-entries"),
        hash_max_listpack_value: c.number("hash-max-listpack-value"),
        list_max_listpack_size: c.number("list-max-listpack-size"),
        set_max_intset_entries: c.number("set-max-intset-entries"),
        set_max_listpack_entries: c.number("set-max-listpack-entries"),
        set_max_listpack_value: c.number("set-max-listpack-value"),
        zset_max_listpack_entries: c.number("zset-max-listpack-entries"),
        zset_max_listpack_value: c.number("zset-max-listpack-value"),
        stream_node_max_bytes: c.number("stream-node-max-bytes"),
        stream_node_max_entries: c.number("stream-node-max-entries"),
        hll_sparse_max_bytes: c.number("hll-sparse-max-bytes"),
        proto_max_bulk_len: c.number::<usize>("proto-max-bulk-len").min(Limits::PROTO_MAX_BULK_LEN_MAX),
    }
}

/// Normal, replica, pubsub.
fn output_limits(c: &Config) -> [OutputLimit; 3] {
    let words = c.words("client-output-buffer-limit");
    let number = |at: usize| words[at].parse().expect("checked by the table");
    [0, 4, 8].map(|at| OutputLimit {
        hard_bytes: number(at + 1),
        soft_bytes: number(at + 2),
        soft_s: number(at + 3),
    })
}

/// Microseconds a key; below zero, a microsecond for so many keys.
fn delay(us: i64) -> Duration {
    match us {
        0.. => Duration::from_micros(us.unsigned_abs()),
        _ => Duration::from_nanos(1000 / us.unsigned_abs()),
    }
}

fn save_rules(c: &Config) -> Vec<SaveRule> {
    let numbers: Vec<u64> =
        c.words("save").iter().map(|word| word.parse().expect("checked by the table")).collect();
    numbers.chunks_exact(2).map(|pair| SaveRule { seconds: pair[0], changes: pair[1] }).collect()
}
