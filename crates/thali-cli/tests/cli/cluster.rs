//! `-c` follows MOVED and ASK.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use thali_testkit::{Port, Process, RespClient, wait_until};

use crate::{port, run, thali_cli};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two nodes of Redis's own that share the slots: the first half and the second.
struct Cluster {
    nodes: Vec<String>,
    _processes: Vec<Process>,
    _ports: Vec<Port>,
    _folder: TempDir,
}

fn cluster() -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster {
        nodes: Vec::new(),
        _processes: Vec::new(),
        _ports: Vec::new(),
        _folder: tempfile::tempdir().unwrap(),
    };
    for name in ["a", "b"] {
        let (port, bus) = (Port::free().unwrap(), Port::free().unwrap());
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.number().to_string(), "--cluster-port", &bus.number().to_string()]);
        command.args(["--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes", "--dir"]).arg(&dir);
        let mut process = Process::spawn("redis-server", &mut command, &dir).unwrap();
        process.wait_for_log("Ready to accept connections", PATIENCE).unwrap();
        cluster.nodes.push(port.address());
        cluster._processes.push(process);
        cluster._ports.extend([port, bus]);
    }
    cluster._folder = folder;
    let bus = cluster._ports[3].number().to_string();
    let mut first = RespClient::connect(&cluster.nodes[0]).unwrap();
    let mut second = RespClient::connect(&cluster.nodes[1]).unwrap();
    first.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]).unwrap();
    second.command(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]).unwrap();
    first.command(&["CLUSTER", "MEET", "127.0.0.1", port(&cluster.nodes[1]), &bus]).unwrap();
    for node in [&mut first, &mut second] {
        wait_until("the cluster to agree", PATIENCE, || {
            node.command(&["CLUSTER", "INFO"]).unwrap().text().contains("cluster_state:ok")
        })
        .unwrap();
    }
    cluster
}

#[test]
fn commands_reach_the_node_that_has_the_slot() {
    let cluster = cluster();
    let (first, second) = (port(&cluster.nodes[0]), port(&cluster.nodes[1]));
    // `foo` has slot 12182, `bar` 5061.
    let output = run(thali_cli(), &["-p", first, "set", "foo", "1"], b"").unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("MOVED 12182 "));
    let lines = b"set foo 1\nset bar 2\nget foo\n";
    let output = run(thali_cli(), &["-c", "-p", first], lines).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "-> Redirected to slot [12182] located at 127.0.0.1:{second}\nOK\n\
             -> Redirected to slot [5061] located at 127.0.0.1:{first}\nOK\n\
             -> Redirected to slot [12182] located at 127.0.0.1:{second}\n1\n"
        )
    );
    let output = run(thali_cli(), &["-c", "-p", first, "get", "foo"], b"").unwrap();
    assert_eq!(output.stdout, b"1\n");
}

#[test]
fn a_slot_on_its_way_is_asked_for() {
    let cluster = cluster();
    let mut first = RespClient::connect(&cluster.nodes[0]).unwrap();
    let mut second = RespClient::connect(&cluster.nodes[1]).unwrap();
    let (from, to) = (
        first.command(&["CLUSTER", "MYID"]).unwrap().text(),
        second.command(&["CLUSTER", "MYID"]).unwrap().text(),
    );
    second.command(&["CLUSTER", "SETSLOT", "5061", "IMPORTING", &from]).unwrap();
    first.command(&["CLUSTER", "SETSLOT", "5061", "MIGRATING", &to]).unwrap();
    let output = run(thali_cli(), &["-c", "-p", port(&cluster.nodes[0]), "set", "bar", "3"], b"").unwrap();
    assert_eq!(output.stdout, b"OK\n", "{}", String::from_utf8_lossy(&output.stderr));
}
