//! The program's own launcher: one process for each rank of this machine, which it supervises.
//!
//! The launcher serves the rendezvous store itself, as torchrun's agent does. So no other program can take the port
//! in between, and the store outlives every rank, so that the survivors of a failure can read the heartbeats of the
//! dead. Children write to the launcher's own stdout and stderr, unchanged.

mod children;
mod system;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::c10d::DEFAULT_TIMEOUT;
use crate::error::{Error, Result};
use crate::ffi::store::Store;
use crate::rendezvous::{process_env, Lookup, Node, Processes, Rendezvous};
use children::Children;

/// The exit code of a rank that a signal stopped after a checkpoint (EX_TEMPFAIL of sysexits.h).
pub const STOPPED: i32 = 75;

/// The exit code of a rank whose input is wrong; a restart would not help.
const BAD_INPUT: i32 = 2;

/// How the ranks ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code for this process: the first failed rank's code (1 if a signal killed it), otherwise [`STOPPED`]
    /// if a rank stopped, otherwise 0.
    pub code: i32,
    /// Which rank failed first, and how.
    pub failure: Option<String>,
}

/// The ranks that this process has to start: those that `wanted` (`--nproc-per-node`) or a launcher's variables ask
/// for. `None` if it is itself one of them, or the only one.
pub fn ranks_to_start(wanted: Option<Processes>, env: Lookup<'_>) -> Result<Option<Node>> {
    let is_member = Rendezvous::from_env(env)?.is_some();
    let node = Node::from_env(env)?;
    Ok(match (wanted, node) {
        _ if is_member && env("RANK").is_some() => None,
        (Some(processes), Some(node)) => Some(Node { nproc_per_node: processes, ..node }),
        (Some(Processes::Exactly(1)), None) => None,
        (Some(processes), None) => Some(Node { nproc_per_node: processes, ..Node::local(1) }),
        (None, node) => node.filter(|_| !is_member),
    })
}

/// What to do when a rank fails: restart all ranks, at most this often, with these arguments added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts<'a> {
    /// How often at most.
    pub most: u32,
    /// The arguments that make them resume.
    pub arguments: &'a [&'a str],
}

/// Runs this program again, with the same arguments, as each rank of `node`, and waits for them. A failure is printed
/// to standard error, and the exit code is returned. A group that spans machines is not restarted: the launchers on
/// the others would have to know of it.
pub fn start_ranks(node: &Node, restarts: Restarts<'_>) -> Result<i32> {
    let program = std::env::current_exe()
        .map_err(|source| Error::System { action: "find this program to start it again", source })?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if restarts.most > 0 && node.nnodes > 1 {
        let message = "only the ranks of one machine can be restarted; for several, torchrun's --max-restarts does it";
        return Err(Error::refused("launch", message));
    }
    for restart in 0.. {
        let exit = spawn(node, &program, &arguments, restart)?;
        let Some(failure) = exit.failure else { return Ok(exit.code) };
        complain(&format!("error: {failure}"));
        if restart == restarts.most || exit.code == BAD_INPUT {
            return Ok(exit.code);
        }
        complain(&format!("all ranks start again ({} of {})", restart + 1, restarts.most));
        if restart == 0 {
            arguments.extend(restarts.arguments.iter().map(OsString::from));
        }
    }
    unreachable!("the last restart returns")
}

/// The reader of standard error may be gone; the ranks are still waited for.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs `program args` as `nproc` ranks on this machine, and waits for them.
///
/// When the first rank fails, the others are ended within seconds. SIGINT and SIGTERM are passed on to all. Call it
/// from the main thread: the ranks receive SIGTERM when the thread that started them ends.
pub fn spawn_local(nproc: usize, program: &Path, args: &[impl AsRef<OsStr>]) -> Result<Exit> {
    spawn_node(&Node::local(nproc), program, args)
}

/// Runs this machine's ranks of a group that may span several.
pub fn spawn_node(node: &Node, program: &Path, args: &[impl AsRef<OsStr>]) -> Result<Exit> {
    spawn(node, program, args, 0)
}

fn spawn(node: &Node, program: &Path, args: &[impl AsRef<OsStr>], restart: u32) -> Result<Exit> {
    let nproc = node.nproc_per_node.count()?;
    if nproc == 0 {
        return Err(Error::refused("launch", "a group needs at least one process"));
    }
    let signals = system::Signals::catch().map_err(|source| Error::System { action: "catch signals", source })?;
    let store = serve_store(node)?;
    let port = store.as_ref().map_or(node.port.unwrap_or(Node::DEFAULT_PORT), |(_, port)| *port);
    let mut children = Children::default();
    for local_rank in 0..nproc {
        let mut command = Command::new(program);
        command.args(args).env("TORCHELASTIC_RESTART_COUNT", restart.to_string());
        set_variables(&mut command, node, nproc, local_rank, port);
        children.start(node.node_rank * nproc + local_rank, command)?;
    }
    Ok(children.supervise(&signals))
}

/// Machine 0 serves; for one machine alone, on loopback and any free port.
fn serve_store(node: &Node) -> Result<Option<(Store, u16)>> {
    if node.node_rank > 0 {
        return Ok(None);
    }
    let address = match (node.nnodes, node.port) {
        (1, port) => ("127.0.0.1", port.unwrap_or(0)),
        (_, port) => ("0.0.0.0", port.unwrap_or(Node::DEFAULT_PORT)),
    };
    let failed = |source| Error::System { action: "listen for the ranks (choose another port?)", source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let store = Store::adopt(listener, DEFAULT_TIMEOUT).map_err(Error::torch("serve the rendezvous store"))?;
    Ok(Some((store, port)))
}

fn set_variables(command: &mut Command, node: &Node, nproc: usize, local_rank: usize, port: u16) {
    let variables = [
        ("RANK", node.node_rank * nproc + local_rank),
        ("WORLD_SIZE", node.nnodes * nproc),
        ("LOCAL_RANK", local_rank),
        ("LOCAL_WORLD_SIZE", nproc),
        ("GROUP_RANK", node.node_rank),
        ("MASTER_PORT", port.into()),
    ];
    command.envs(variables.map(|(name, value)| (name, value.to_string())));
    command.env("MASTER_ADDR", &node.host).env("TORCHELASTIC_USE_AGENT_STORE", "True");
    if node.nnodes == 1 && process_env("GLOO_SOCKET_IFNAME").is_none() {
        // The machine's own name may not resolve, and nobody else should connect.
        command.env("GLOO_SOCKET_IFNAME", "lo");
    }
}
