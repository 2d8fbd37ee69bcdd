//! Several processes of this test binary, in roles, that meet without a launcher.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The command that makes this binary play a role.
pub fn role(role: &str, timeout_secs: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    command.args(["collective::worker", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("COLLECTIVE_ROLE", role).env("COLLECTIVE_TIMEOUT", timeout_secs.to_string());
    command.env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
    command
}

/// Ranks that have been started; killed when dropped.
pub struct Processes {
    ranks: Vec<(usize, Child)>,
    started: Instant,
}

/// How one rank ended.
pub struct Ended {
    pub success: bool,
    /// What it said on stdout, both streams on failure.
    pub said: String,
}

impl Processes {
    /// All ranks of a world in one role.
    pub fn start(name: &str, world: usize, timeout_secs: u64) -> Processes {
        Processes::start_some(name, 0..world, world, timeout_secs)
    }

    /// Only these ranks.
    pub fn start_some(
        name: &str, ranks: impl IntoIterator<Item = usize>, world: usize, timeout_secs: u64,
    ) -> Processes {
        let port = free_port().to_string();
        let start = |rank: usize| {
            let mut command = role(name, timeout_secs);
            let variables = [("RANK", rank), ("WORLD_SIZE", world), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", world)];
            command.envs(variables.map(|(name, value)| (name, value.to_string())));
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the test binary starts");
            (rank, child)
        };
        Processes { ranks: ranks.into_iter().map(start).collect(), started: Instant::now() }
    }

    /// Waits for one rank, at most a minute and a half.
    pub fn end_of(&mut self, rank: usize) -> Ended {
        let child = self.ranks.iter_mut().find(|(r, _)| *r == rank).map(|(_, child)| child).expect("it was started");
        wait(child, self.started)
    }

    /// Every rank ends well.
    pub fn all_succeed(mut self) {
        for rank in self.ranks.iter().map(|(rank, _)| *rank).collect::<Vec<_>>() {
            let ended = self.end_of(rank);
            assert!(ended.success, "rank {rank}: {}", ended.said);
        }
    }
}

/// Waits for a process whose output is piped.
pub fn wait(child: &mut Child, started: Instant) -> Ended {
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(90), "a process hangs");
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut said = String::new();
    let mut read = |stream: Option<&mut dyn Read>| stream.map(|stream| stream.read_to_string(&mut said));
    read(child.stdout.as_mut().map(|stream| stream as &mut dyn Read));
    if !status.success() {
        read(child.stderr.as_mut().map(|stream| stream as &mut dyn Read));
    }
    Ended { success: status.success(), said }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.ranks {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
