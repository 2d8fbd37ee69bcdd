//! The command line: arguments in, report out, exit code back.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use collective::rendezvous::Lookup;
use collective::{FolderLock, Processes};
use diffusion::pipeline::Pipeline;
use diffusion::weights::Placement;
use hub::Hub;
use judge::Embedder;
use program::{LogFormat, Progress};
use tch::Kind;

use crate::config::plan::Plan;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::evaluation::evaluate::evaluate;
use crate::evaluation::evaluation_plan::EvaluationPlan;
use crate::evaluation::ranks::Ranks;
use crate::fit;
use crate::report::history::History;
use crate::report::provenance;
use crate::report::publish::Staging;
use crate::report::{json, terminal, Report};

/// Edits held-out photos with trained runs, scores the edits, and writes a report.
#[derive(Debug, Parser)]
#[command(
    name = "evaluator",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  evaluator --config configs/pocket/evaluate.yaml --set emotion=sadness --nproc-per-node 2\n  \
                  evaluator fit-classifier --config configs/pocket/classifier.yaml\n  \
                  evaluator schema report\n\n\
                  Exit codes: 0 written, gates passed; 1 failed or a gate did not pass; 2 bad recipe or input."
)]
pub struct Cli {
    /// A command instead of a report.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The report.
    #[command(flatten)]
    pub report: Option<Args>,
}

/// The commands beside reports.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trains an emotion classifier over CLIP's image embeddings, and writes it with a card.
    FitClassifier(FitArgs),
    /// Prints the JSON schema of a recipe, for editors, or of report.json, for programs that read it.
    Schema(SchemaArgs),
}

/// Arguments of `schema`.
#[derive(Debug, Parser)]
pub struct SchemaArgs {
    /// Whose schema.
    #[arg(value_enum, default_value_t = Described::Recipe)]
    pub of: Described,
}

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// The recipe of a report.
    Recipe,
    /// The recipe of `fit-classifier`.
    Classifier,
    /// report.json.
    Report,
}

/// Arguments of `fit-classifier`.
#[derive(Debug, Parser)]
pub struct FitArgs {
    /// The recipe (YAML).
    #[arg(long)]
    pub config: PathBuf,
    /// Set a key of the recipe: a.b=value, the value in YAML. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Seconds between two lines of progress when there is no terminal.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = program::progress::seconds)]
    pub progress_every: Duration,
}

/// Arguments of a report.
#[derive(Debug, Parser)]
#[command(name = "evaluator", version)]
pub struct Args {
    /// The recipe (YAML).
    #[arg(long)]
    pub config: PathBuf,
    /// Set a key of the recipe: a.b=value, the value in YAML. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Share the sources among this many processes here, or one for each GPU. Not under torchrun or Slurm, which
    /// start them.
    #[arg(long, value_name = "N|gpu")]
    pub nproc_per_node: Option<Processes>,
    /// The report's date, YYYY-MM-DD; today (UTC) by default.
    #[arg(long)]
    pub date: Option<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Seconds between two lines of progress when there is no terminal.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = program::progress::seconds)]
    pub progress_every: Duration,
}

/// A finished run of the program.
#[derive(Debug)]
pub struct Outcome {
    /// The report's folder.
    pub folder: PathBuf,
    /// The table for standard output.
    pub table: String,
    /// Whether every gate holds.
    pub passed: bool,
}

impl Cli {
    /// How log lines look, and how often progress is logged.
    pub fn log(&self) -> (LogFormat, Duration) {
        match (&self.command, &self.report) {
            (Some(Command::FitClassifier(args)), _) => (args.log_format, args.progress_every),
            (None, Some(args)) => (args.log_format, args.progress_every),
            (Some(Command::Schema(_)), _) | (None, None) => (LogFormat::Text, Duration::from_secs(15)),
        }
    }
}

/// Trains a classifier. `hub` finds a CLIP named by an id, and `env` has the keys of object stores.
pub fn fit_classifier(args: &FitArgs, hub: &Hub, env: Lookup<'_>) -> Result<String> {
    let config: fit::config::Config = recipes(env).load(&args.config, &args.sets)?;
    let config = fit::config::Config { store: config.store.with_env(env), ..config };
    let card = fit::run(&config, hub)?;
    Ok(format!("{}\n{}", card.summary(), config.output_dir.join("README.md").display()))
}

/// Reads recipes for the user whose environment this is.
fn recipes(env: Lookup<'_>) -> recipe::Reader {
    recipe::Reader { home: env("HOME").map(PathBuf::from) }
}

/// A JSON schema as text.
pub fn schema(of: Described) -> String {
    let pretty = |schema: schemars::Schema| serde_json::to_string_pretty(&schema).expect("a schema is plain data");
    match of {
        Described::Recipe => pretty(schemars::schema_for!(Config)),
        Described::Classifier => pretty(schemars::schema_for!(fit::config::Config)),
        Described::Report => json::SCHEMA.trim_end().to_string(),
    }
}

/// Checks the arguments, the recipe and the headers of its models' weights as [`run`] would, and evaluates nothing.
pub fn check(args: &Args, hub: Hub, env: Lookup<'_>) -> Result<()> {
    args.date.as_deref().map_or(Ok(()), check_date)?;
    let config: Config = recipes(env).load(&args.config, &args.sets)?;
    let plan = Plan::new(config, hub, &Ranks::alone())?;
    let headers = Placement::headers(Kind::Float);
    Pipeline::load_with(&plan.base.1, headers)?;
    Embedder::load_with(&plan.clip, headers)?;
    Ok(())
}

/// Evaluates this process's share; only the first of `ranks` writes the report and returns an outcome. `today` is the
/// report's date if none was given, `hub` finds models named by an id, and `env` has the keys of object stores.
pub fn run(args: &Args, today: &str, hub: Hub, env: Lookup<'_>, ranks: &Ranks) -> Result<Option<Outcome>> {
    let date = args.date.as_deref().unwrap_or(today);
    check_date(date)?;
    let config: Config = recipes(env).load(&args.config, &args.sets)?;
    let config = Config { store: config.store.with_env(env), ..config };
    let finding = Progress::unbounded("finding the models", ranks.is_first());
    let plan = Plan::new(config, hub, ranks)?;
    drop(finding);
    let output_dir = &plan.config.output_dir;
    let _lock = ranks.is_first().then(|| FolderLock::take(output_dir, "evaluator")).transpose().map_err(Error::Busy)?;
    let history = History::read(output_dir, date)?;
    let opening = Progress::unbounded("opening models and sources", ranks.is_first());
    let evaluation_plan = EvaluationPlan::open(&plan)?;
    drop(opening);
    if let Some(style) = evaluation_plan.style.as_ref().filter(|_| ranks.is_first()) {
        tracing::info!("style images: {} read", style["n"]);
    }
    let staging = Staging::open(output_dir, date, &provenance::identity(&plan, &evaluation_plan, ranks.size)?, ranks)?;
    let Some(evaluation) = evaluate(&plan, evaluation_plan, &staging.parts(), staging.pictures(), ranks)? else {
        return Ok(None);
    };
    let writing = Progress::unbounded("writing the report", true);
    let report = Report::new(&plan, &evaluation, &history, staging.folder())?;
    report.write(staging.folder())?;
    drop(writing);
    let folder = staging.publish()?;
    history.remember(report.record())?;
    tracing::info!("report written: {}", folder.join("index.html").display());
    Ok(Some(Outcome { folder, table: terminal::render(&report), passed: report.passed() }))
}

fn check_date(date: &str) -> Result<()> {
    let shape = |(place, byte): (usize, u8)| match place {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    if date.len() == 10 && date.bytes().enumerate().all(shape) {
        return Ok(());
    }
    Err(Error::config("--date", format!("{date:?} is not a date; write it as 2026-01-31")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dates_are_dates() {
        assert!(check_date("2026-01-31").is_ok());
        for wrong in ["", "yesterday", "2026-1-31", "2026/01/31", "../../etc/x"] {
            assert!(check_date(wrong).is_err(), "{wrong}");
        }
    }
}
