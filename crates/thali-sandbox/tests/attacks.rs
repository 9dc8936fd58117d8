//! Each test is an attack that a boxed command tries; the box holds and the machine goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thali_sandbox::{
    Command, Ending, Limits, Mechanism, Network, OnRefusal, Outcome, Policy, Sandbox, Stream, Support,
};
use thali_sandbox::{Tree, probe};

fn limits() -> Limits {
    Limits { wall: Duration::from_secs(5), ..Limits::default() }
}

fn policy() -> Policy {
    Policy { limits: limits(), ..Policy::default() }
}

fn python(code: &str) -> Command {
    Command::new("/usr/bin/python3").args(["-c", code])
}

fn shell(code: &str) -> Command {
    Command::new("sh").args(["-c", code])
}

fn run(policy: Policy, command: &Command) -> Outcome {
    let sandbox = Sandbox::new(policy).expect("this machine can box");
    sandbox.run(command, &AtomicBool::new(false), &mut |_, _| {}).expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The ways of holding a tree that this machine has: its best one, and the one without namespaces.
fn supports() -> Vec<Support> {
    let best = probe();
    vec![best, Support { tree: Some(Tree::Group), ..best }]
}

#[test]
fn well_behaved_command_gets_input_and_gives_output() {
    let outcome =
        run(policy(), &shell("read line; echo \"got $line\"; echo warned >&2; exit 3").stdin("hello\n"));
    assert_eq!((outcome.exit_code, outcome.ending), (Some(3), Ending::Own));
    assert_eq!(text(&outcome.stdout), "got hello\n");
    assert_eq!(text(&outcome.stderr), "warned\n");
}

#[test]
fn large_input_and_output_flow_at_the_same_time() {
    let input = "x".repeat(700_000);
    let outcome = run(policy(), &Command::new("cat").stdin(input.clone()));
    assert!(outcome.success());
    assert_eq!(text(&outcome.stdout), input);
}

#[test]
fn descriptor_three_reaches_the_starter() {
    let mut command = shell("echo '{\"progress\":1}' >&3");
    command.control = true;
    let sandbox = Sandbox::new(policy()).unwrap();
    let mut heard = Vec::new();
    let outcome = sandbox.run(&command, &AtomicBool::new(false), &mut |stream, bytes| {
        if stream == Stream::Control {
            heard.extend_from_slice(bytes);
        }
    });
    assert!(outcome.unwrap().success());
    assert_eq!(text(&heard), "{\"progress\":1}\n");
}

#[test]
fn endless_loop_ends_at_the_deadline() {
    let limits = Limits { wall: Duration::from_millis(400), ..limits() };
    let started = Instant::now();
    let outcome = run(Policy { limits, ..policy() }, &shell("while :; do :; done"));
    assert!(outcome.timed_out(), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(outcome.cpu > Duration::from_millis(10), "the tree's CPU time is told: {outcome:?}");
}

#[test]
fn cpu_limit_ends_a_busy_command() {
    let limits = Limits { cpu: Some(Duration::from_secs(1)), ..limits() };
    let outcome = run(Policy { limits, ..policy() }, &shell("while :; do :; done"));
    assert!(outcome.timed_out(), "{outcome:?}");
}

#[test]
fn fork_bomb_is_ended() {
    for support in supports() {
        let sandbox = Sandbox::with_support(policy(), support).unwrap();
        let bomb = python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass");
        let outcome = sandbox.run(&bomb, &AtomicBool::new(false), &mut |_, _| {}).unwrap();
        assert_eq!(outcome.ending, Ending::Processes, "{outcome:?}");
    }
}

#[test]
fn process_limit_binds_root_too() {
    let limits = Limits { processes: 20, ..limits() };
    // Counts how many children it gets, quicker than the watch looks.
    let code = "import os,sys\nn=0\ntry:\n  while n<200:\n    if os.fork()==0:\n      __import__('time').sleep(9)\n    n+=1\nexcept OSError: pass\nsys.stdout.write(str(n)); sys.stdout.flush(); os._exit(0)";
    let outcome = run(Policy { limits, ..policy() }, &python(code));
    let count = text(&outcome.stdout).parse::<u32>();
    assert!(
        outcome.ending == Ending::Processes || count.as_ref().is_ok_and(|&count| count <= 24),
        "{outcome:?}"
    );
}

#[test]
fn memory_hog_is_ended() {
    let limits = Limits { memory_bytes: 64 << 20, ..limits() };
    let hog = python("x=[]\nwhile True: x.append(bytearray(1<<20))");
    let outcome = run(Policy { limits, ..policy() }, &hog);
    assert!(outcome.out_of_memory(), "{outcome:?}");
    assert!(outcome.resident_bytes_max < 1 << 30, "the backstop held: {outcome:?}");
}

#[test]
fn memory_of_the_whole_tree_counts() {
    let limits = Limits { memory_bytes: 100 << 20, ..limits() };
    let code = "import os,time\nfor _ in range(4): \n  if os.fork()==0:\n    x=bytearray(os.urandom(1<<20)*40); time.sleep(9)\ntime.sleep(9)";
    let outcome = run(Policy { limits, ..policy() }, &python(code));
    assert!(outcome.out_of_memory(), "{outcome:?}");
}

#[test]
fn giant_output_is_cut() {
    let limits = Limits { stdout_bytes: 10_000, ..limits() };
    let outcome = run(Policy { limits, ..policy() }, &Command::new("yes"));
    assert_eq!(
        (outcome.ending, outcome.output_truncated, outcome.stdout.len()),
        (Ending::Output, true, 10_000)
    );
}

#[test]
fn giant_error_output_is_cut_and_its_end_kept() {
    let outcome = run(policy(), &shell("yes warn >&2"));
    assert_eq!(outcome.ending, Ending::Output);
    assert!(outcome.stderr.len() <= 32 * 1024);
}

#[test]
fn filling_the_disk_is_ended() {
    let limits = Limits { scratch_bytes: 20 << 20, file_bytes: 8 << 20, ..limits() };
    let code = "i=0; while :; do head -c 4000000 /dev/zero > f$i; i=$((i+1)); done";
    let outcome = run(Policy { limits, ..policy() }, &shell(code));
    assert_eq!(outcome.ending, Ending::Scratch, "{outcome:?}");
}

#[test]
fn network_is_refused() {
    let code = "import socket\ntry: socket.create_connection(('127.0.0.1', 1)); print('connected')\nexcept PermissionError: print('refused')";
    assert_eq!(text(&run(policy(), &python(code)).stdout), "refused\n");
    let killing = Policy { on_refusal: OnRefusal::Kill, ..policy() };
    assert!(run(killing, &python(code)).refused());
}

#[test]
fn network_works_where_it_is_allowed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let code = format!("import socket; socket.create_connection(('127.0.0.1', {port})); print('connected')");
    let open = Policy { network: Network::Open, ..policy() };
    assert_eq!(text(&run(open, &python(&code)).stdout), "connected\n");
}

#[test]
fn other_files_cannot_be_read() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "secret").unwrap();
    for path in
        ["/etc/passwd", "/etc/shadow", "/root/.profile", "/proc/1/environ", secret.path().to_str().unwrap()]
    {
        let outcome = run(policy(), &Command::new("cat").args([path]));
        assert_ne!(outcome.exit_code, Some(0), "{path} was readable");
        assert_eq!(outcome.stdout, b"");
    }
}

#[test]
fn other_folders_cannot_be_written() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().to_str().unwrap().to_owned();
    for target in [path.as_str(), "/tmp", "/var/tmp", "/dev/shm", "/"] {
        let outcome = run(policy(), &shell(&format!("echo x > {target}/thali-escape")));
        assert_ne!(outcome.exit_code, Some(0), "{target} was writable");
        assert!(!std::fs::exists(format!("{target}/thali-escape")).unwrap());
    }
}

#[test]
fn scratch_is_writable_and_gone_afterwards() {
    let sandbox = Sandbox::new(policy()).unwrap();
    let scratch = sandbox.scratch().to_owned();
    let code = "mkdir -p a/b && echo x > a/b/c && chmod 000 a/b && cat \"$TMPDIR\"/given && pwd";
    sandbox.put("given", b"put there\n").unwrap();
    let outcome = sandbox.run(&shell(code), &AtomicBool::new(false), &mut |_, _| {}).unwrap();
    assert!(outcome.success(), "{outcome:?}");
    assert!(text(&outcome.stdout).starts_with("put there\n"));
    drop(sandbox);
    assert!(!scratch.exists());
}

#[test]
fn put_does_not_follow_links_left_by_a_command() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    let sandbox = Sandbox::new(policy()).unwrap();
    let code = format!("ln -s {} main.py", victim.path().display());
    assert!(sandbox.run(&shell(&code), &AtomicBool::new(false), &mut |_, _| {}).unwrap().success());
    sandbox.put("main.py", b"print()").unwrap();
    assert_eq!(std::fs::read(victim.path()).unwrap(), b"");
}

#[test]
fn parent_and_others_cannot_be_killed() {
    let own = std::process::id();
    for support in supports() {
        let sandbox = Sandbox::with_support(policy(), support).unwrap();
        let code = format!("kill -9 {own}; kill -9 $PPID; kill -9 -1; exit 0");
        sandbox.run(&shell(&code), &AtomicBool::new(false), &mut |_, _| {}).unwrap();
    }
    // Being here is the claim.
}

#[test]
fn daemons_do_not_outlive_the_command() {
    for support in supports() {
        let sandbox = Sandbox::with_support(policy(), support).unwrap();
        let code = "import os,time,sys\nfor _ in range(3):\n  if os.fork()==0:\n    try: os.setsid()\n    except OSError: pass\n    if os.fork()==0:\n      open('alive','w').write('x')\n      time.sleep(0.5)\n      open('survived','w').write('x'); os._exit(0)\n    os._exit(0)\ntime.sleep(0.2); print('done')";
        let outcome = sandbox.run(&python(code), &AtomicBool::new(false), &mut |_, _| {}).unwrap();
        assert_eq!(text(&outcome.stdout), "done\n", "{outcome:?}");
        assert!(sandbox.scratch().join("alive").exists());
        std::thread::sleep(Duration::from_millis(600));
        assert!(!sandbox.scratch().join("survived").exists(), "{:?}", support.tree);
    }
}

#[test]
fn kernel_surface_is_refused() {
    let attempts = [
        "libc.unshare(0x10000000)",
        "libc.ptrace(16, 1, 0, 0)",
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "libc.syscall(250, 0, 0, 0)",
        "libc.syscall(321, 0, 0, 0)",
        "libc.syscall(425, 1, 0)",
        "libc.syscall(323, 0)",
        "libc.syscall(0x40000000 + 39)",
        "libc.syscall(999)",
    ];
    for attempt in attempts {
        let code = format!("import ctypes; libc=ctypes.CDLL(None); print({attempt})");
        assert_eq!(text(&run(policy(), &python(&code)).stdout), "-1\n", "{attempt}");
    }
}

#[test]
fn environment_and_descriptors_are_clean() {
    let outcome = run(policy(), &shell("env | cut -d= -f1 | sort | tr '\\n' ' '"));
    assert_eq!(text(&outcome.stdout), "HOME LANG PATH PWD TMPDIR ");
    let code = "import os\ndef is_open(n):\n  try: os.fstat(n); return True\n  except OSError: return False\nprint(sum(map(is_open, range(256))))";
    assert_eq!(text(&run(policy(), &python(code)).stdout), "3\n");
}

#[test]
fn core_files_are_not_written() {
    let outcome = run(policy(), &python("import os; os.abort()"));
    assert_eq!(outcome.signal, Some(6), "{outcome:?}");
}

#[test]
fn the_caller_can_stop_a_run() {
    let sandbox = Sandbox::new(policy()).unwrap();
    let stop = AtomicBool::new(false);
    let outcome =
        sandbox.run(&shell("echo started; sleep 60"), &stop, &mut |_, _| stop.store(true, Ordering::Relaxed));
    assert_eq!(outcome.unwrap().ending, Ending::Stopped);
}

#[test]
fn lacking_mechanism_is_named_unless_allowed() {
    let without = Support { landlock_abi: 0, ..probe() };
    let error = Sandbox::with_support(policy(), without).err().expect("refused").to_string();
    assert!(error.contains("landlock") && error.contains("--allow-unboxed landlock"), "{error}");
    let allowed = Policy { allow_unboxed: vec![Mechanism::Landlock], ..policy() };
    let sandbox = Sandbox::with_support(allowed, without).unwrap();
    assert!(sandbox.run(&shell("exit 0"), &AtomicBool::new(false), &mut |_, _| {}).unwrap().success());
    assert!(!sandbox.in_force().to_string().contains("landlock"));
}

#[test]
fn missing_program_is_named() {
    let sandbox = Sandbox::new(policy()).unwrap();
    let error =
        sandbox.run(&Command::new("no-such-program"), &AtomicBool::new(false), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

#[test]
fn many_boxes_run_at_once() {
    let workers: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                let outcome = run(policy(), &shell(&format!("echo {number}")));
                assert_eq!(text(&outcome.stdout), format!("{number}\n"));
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[test]
fn trusted_command_keeps_its_environment() {
    let outcome = run(Policy::trusted(limits()), &shell("test -r /etc/passwd && echo trusted"));
    assert_eq!(text(&outcome.stdout), "trusted\n");
}

#[test]
fn boxes_of_a_trusted_command_lie_in_its_scratch() {
    let trusted = Sandbox::new(Policy::trusted(limits())).unwrap();
    let outcome =
        trusted.run(&shell("stat -c %a . && pwd"), &AtomicBool::new(false), &mut |_, _| {}).unwrap();
    assert_eq!(text(&outcome.stdout), format!("711\n{}\n", trusted.scratch().display()));
}

#[test]
fn scratch_of_a_killed_caller_is_swept_up_and_one_in_use_is_not() {
    let left = std::env::temp_dir().join(format!("thali-box-left-{}", std::process::id()));
    let used = std::env::temp_dir().join(format!("thali-box-used-{}", std::process::id()));
    std::fs::create_dir_all(left.join("inner")).unwrap();
    std::fs::create_dir(&used).unwrap();
    let lock = std::fs::File::open(&used).unwrap();
    lock.lock().unwrap();
    // A process sweeps once, before its first box.
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "well_behaved_command_gets_input_and_gives_output"])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert!(!left.exists() && used.exists());
    std::fs::remove_dir(used).unwrap();
}

/// Not a claim: what the next test runs in another process, so that it can kill it.
#[test]
#[ignore = "started by killing_the_caller_kills_the_box"]
fn helper_sleeps_in_a_box() {
    if let Ok(seconds) = std::env::var("THALI_TEST_SLEEP") {
        run(policy(), &shell(&format!("sleep {seconds} & sleep {seconds}")));
    }
}

#[test]
fn killing_the_caller_kills_the_box() {
    let seconds = format!("4.{:09}", std::process::id());
    let sleepers = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with("sleep\0") && line.contains(&seconds)).count()
    };
    let mut helper = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_sleeps_in_a_box", "--ignored"])
        .env("THALI_TEST_SLEEP", &seconds)
        .spawn()
        .unwrap();
    wait_until("the box runs", || sleepers() == 2);
    helper.kill().unwrap();
    helper.wait().unwrap();
    wait_until("the box is gone", || sleepers() == 0);
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
