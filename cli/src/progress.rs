//! What a waiting command shows: a spinner on a terminal, nothing anywhere else.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::view::operation::Operation;

const TICK: Duration = Duration::from_millis(100);

/// The line that says what an operation is doing. Dropping it clears the line.
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// A spinner on standard error if that is a terminal.
    pub(crate) fn on_terminal() -> Self {
        if !io::stderr().is_terminal() {
            return Self { spinner: None };
        }
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(TICK);
        Self { spinner: Some(spinner) }
    }

    /// Shows the operation as it stands.
    pub(crate) fn show(&self, operation: &Operation) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(line(operation));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn line(operation: &Operation) -> String {
    let mut line = operation.title();
    if let Some(phase) = &operation.phase {
        line.push_str(&format!(": {phase}"));
    }
    if let Some(reason) = operation.waiting() {
        line.push_str(&format!(", waits for {reason}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use hawser_proto::v1;

    use super::*;

    #[test]
    fn the_line_names_job_phase_and_what_is_missing() {
        let mut operation = v1::Operation {
            id: 42,
            kind: v1::OperationKind::CreateResource.into(),
            resource: "data".into(),
            ..Default::default()
        };
        let view = |operation: &v1::Operation| {
            Operation::from(&v1::OperationView {
                operation: Some(operation.clone()),
                phase: "create-replicas".into(),
                ..Default::default()
            })
        };
        assert_eq!(line(&view(&operation)), "create resource data: create-replicas");

        operation.waits_for = Some(v1::OperationReason {
            node: "n2".into(),
            command: "lvcreate …".into(),
            message: "not connected".into(),
        });
        let expected = "create resource data: create-replicas, waits for n2: not connected (lvcreate …)";
        assert_eq!(line(&view(&operation)), expected);
    }
}
