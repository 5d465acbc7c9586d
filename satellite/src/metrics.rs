//! What `/metrics` shows of the satellite.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum StepOutcome {
    /// As it should.
    Ok,
    /// It failed.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
    outcome: StepOutcome,
}

/// The satellite's metrics.
pub struct Metrics {
    registry: Registry,
    steps: Family<StepLabels, Counter>,
    step_seconds: Family<StepLabels, Counter<f64, AtomicU64>>,
    refused_documents: Counter,
    sessions: Counter,
    /// 1 while a session with a controller is open.
    pub connected: Gauge,
    /// Revision of the accepted document.
    pub revision: Gauge<i64, AtomicI64>,
    /// Storage commands that are stuck in the kernel.
    pub stuck: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hawser_satellite");
        let metrics = (
            Family::<StepLabels, Counter>::default(),
            Family::<StepLabels, Counter<f64, AtomicU64>>::default(),
            Counter::default(),
            Counter::default(),
        );
        let (connected, revision, stuck) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("steps", "Steps that ended", metrics.0.clone());
        registry.register("step_seconds", "Time that steps took", metrics.1.clone());
        registry.register("refused_documents", "Documents that were refused", metrics.2.clone());
        registry.register("sessions", "Sessions that were opened", metrics.3.clone());
        registry.register("connected", "Whether a session is open", connected.clone());
        registry.register("document_revision", "Revision of the accepted document", revision.clone());
        registry.register("stuck_commands", "Commands that are stuck in the kernel", stuck.clone());
        Self {
            registry,
            steps: metrics.0,
            step_seconds: metrics.1,
            refused_documents: metrics.2,
            sessions: metrics.3,
            connected,
            revision,
            stuck,
        }
    }

    /// Counts a step that ended.
    pub(crate) fn step(&self, step: &'static str, outcome: StepOutcome, taken: Duration) {
        let labels = StepLabels { step, outcome };
        self.steps.get_or_create(&labels).inc();
        self.step_seconds.get_or_create(&labels).inc_by(taken.as_secs_f64());
    }

    /// Counts a document that was refused.
    pub(crate) fn document_refused(&self) {
        self.refused_documents.inc();
    }

    /// Counts a session that was opened.
    pub(crate) fn session_opened(&self) {
        self.sessions.inc();
    }

    /// In the OpenMetrics text form.
    ///
    /// # Errors
    /// If a value cannot be written as text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
