//! The description in a classifier's folder: metrics.json for programs and README.md for people (Mitchell et al.,
//! *Model Cards for Model Reporting*, 2019).

use emotions::Emotion;
use judge::embedder::Embedder;
use serde_json::{json, Map, Value};
use tch::Tensor;

use super::config::Config;
use super::samples::Parts;
use super::training::Trained;
use crate::metrics::statistics::calibration::{expected_error, negative_log_likelihood};
use crate::metrics::statistics::confusion::Confusion;

/// Figures for one part of the data.
#[derive(Debug)]
pub struct Figures {
    /// Rows.
    pub n: usize,
    /// Label against most probable class.
    pub confusion: Confusion,
    /// Share of correct predictions.
    pub accuracy: f64,
    /// Mean −ln p(label), at temperature 1 and at the chosen one.
    pub negative_log_likelihood: [f64; 2],
    /// Expected calibration error, at temperature 1 and at the chosen one.
    pub calibration_error: [f64; 2],
}

/// A classifier's figures.
#[derive(Debug)]
pub struct Card {
    /// What its logits are divided by.
    pub temperature: f64,
    /// On the rows that stopped the training and set the temperature.
    pub validation: Figures,
    /// On the test rows, which nothing was chosen by.
    pub test: Figures,
    provenance: Value,
}

impl Card {
    /// Figures from the logits (n, 8) and labels (n) of validation and test rows.
    pub fn new(
        config: &Config, clip: &Embedder, parts: &Parts, trained: &Trained, temperature: f64,
        scored: &[(Tensor, Tensor); 2],
    ) -> Self {
        let [validation, test] = [&scored[0], &scored[1]].map(|(l, labels)| Figures::new(l, labels, temperature));
        let provenance = json!({
            "data": {"manifest": parts.manifest, "train": config.data.train, "validation": config.data.validation,
                     "test": config.data.test, "n_train": parts.train.len()},
            "clip": {"name": config.clip, "hash": clip.hash(), "embeddings": if parts.stored { "stored" } else { "computed" }},
            "head": config.hidden, "normalize": config.normalize, "train": config.train, "seed": config.seed,
            "epochs": trained.epochs, "best_epoch": trained.best_epoch,
        });
        Self { temperature, validation, test, provenance }
    }

    /// One line for a terminal.
    pub fn summary(&self) -> String {
        let test = &self.test;
        format!(
            "test: {:.1} % of {} right (macro-F1 {:.3}), calibration error {:.3} before and {:.3} after",
            100.0 * test.accuracy,
            test.n,
            test.confusion.macro_f1(),
            test.calibration_error[0],
            test.calibration_error[1],
        )
    }

    /// metrics.json, which a report includes.
    pub fn json(&self) -> Value {
        json!({
            "chance": 0.125,
            "temperature": self.temperature,
            "test": self.test.json(),
            "validation": self.validation.json(),
            "made_from": self.provenance,
        })
    }

    /// README.md.
    pub fn markdown(&self) -> String {
        let made = &self.provenance;
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        let figures = |name: &str, f: &Figures| {
            let ([raw_nll, nll], [raw_ece, ece]) = (f.negative_log_likelihood, f.calibration_error);
            format!(
                "| {name} | {} | {} | {} | {:.3} | {raw_nll:.3} → {nll:.3} | {raw_ece:.3} → {ece:.3} |\n",
                f.n,
                percent(f.accuracy),
                percent(f.confusion.balanced_accuracy()),
                f.confusion.macro_f1(),
            )
        };
        format!(
            "# An emotion classifier over CLIP's image embeddings\n\n\
             Mikels' eight emotions. Made by `evaluator fit-classifier`; config.json describes it, metrics.json has every \
             figure. It was part of no training loss; a run whose loss used the same CLIP must not be judged by it.\n\n\
             | rows | n | accuracy | mean of the classes' | macro-F1 | −ln p | calibration error |\n\
             |---|---:|---:|---:|---:|---:|---:|\n{}{}\n\
             Chance is 12.5 %. The test rows chose nothing; the validation rows stopped the training and set the \
             temperature, {:.3}. Arrows lead from temperature 1 to that; the calibration error has 15 bins.\n\n\
             ## Test rows: label down, found across\n\n{}\n\
             ## Made from\n\n- data: manifest {}, {} rows to learn from\n- CLIP: {} (blake3 {}), embeddings {}\n\
             - seed {}, best of {} epochs: {}\n",
            figures("test", &self.test),
            figures("validation", &self.validation),
            self.temperature,
            self.test.table(),
            text(&made["data"]["manifest"]),
            made["data"]["n_train"],
            text(&made["clip"]["name"]),
            text(&made["clip"]["hash"]),
            text(&made["clip"]["embeddings"]),
            made["seed"],
            made["epochs"],
            made["best_epoch"],
        )
    }
}

impl Figures {
    fn new(logits: &Tensor, labels: &Tensor, temperature: f64) -> Self {
        let found = logits.argmax(1, false);
        let emotion = |classes: &Tensor, row: i64| Emotion::ALL[classes.int64_value(&[row]) as usize];
        let rows = labels.size()[0];
        let confusion = Confusion::of((0..rows).map(|row| (emotion(labels, row), emotion(&found, row))));
        let both =
            |measure: fn(&Tensor, &Tensor) -> f64| [measure(logits, labels), measure(&(logits / temperature), labels)];
        Self {
            n: rows as usize,
            accuracy: confusion.accuracy(),
            confusion,
            negative_log_likelihood: both(negative_log_likelihood),
            calibration_error: both(expected_error),
        }
    }

    fn json(&self) -> Value {
        let per_class: Map<String, Value> = Emotion::ALL
            .into_iter()
            .filter_map(|e| Some((e.name().to_string(), json!(self.confusion.accuracy_of(e)?))))
            .collect();
        json!({
            "n": self.n,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.confusion.balanced_accuracy(),
            "macro_f1": self.confusion.macro_f1(),
            "accuracy_per_class": per_class,
            "confusion": self.confusion,
            "negative_log_likelihood": self.negative_log_likelihood[1],
            "negative_log_likelihood_before_calibration": self.negative_log_likelihood[0],
            "calibration_error": self.calibration_error[1],
            "calibration_error_before_calibration": self.calibration_error[0],
        })
    }

    fn table(&self) -> String {
        let heads: String = Emotion::ALL.iter().map(|e| format!(" {e} |")).collect();
        let mut out = format!("| |{heads} right |\n|---|{}\n", "---:|".repeat(9));
        for emotion in Emotion::ALL {
            let counts: String = self.confusion.counts()[emotion.index()].iter().map(|n| format!(" {n} |")).collect();
            let share = self.confusion.accuracy_of(emotion).map_or("–".into(), |a| format!("{:.0} %", 100.0 * a));
            out += &format!("| {emotion} |{counts} {share} |\n");
        }
        out
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
