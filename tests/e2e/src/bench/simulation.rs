//! What the simulated cluster tells: how many simulated seconds pass in one real second, on all processors together, and
//! how much memory a satellite takes that keeps 500 replicas over a simulated system.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Figures;

/// As many as give a figure that does not jump from run to run.
const SEEDS: &str = "24";
const REPLICAS: &str = "500";

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let said = chaos(&["--satellite-with", REPLICAS])?;
    let bytes: f64 = said.trim().parse().with_context(|| format!("{said:?} is no number of bytes"))?;
    figures.add("satellite_rss_mib_500", bytes / f64::from(1 << 20), "<= 30");

    let said = chaos(&["--seeds", SEEDS])?;
    let per_second = per_second(&said).with_context(|| format!("there is no speed in:\n{said}"))?;
    figures.add("simulated_seconds_per_second", per_second, "none");
    Ok(())
}

/// What `hawser-chaos` says.
fn chaos(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(hawser_lab::options::programs().join("hawser-chaos"));
    let ended = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8(ended.stdout)?;
    ensure!(ended.status.success(), "hawser-chaos {} failed:\n{said}", arguments.join(" "));
    Ok(said)
}

/// From the last line: `… simulated seconds in 268 s (53 per second)`.
fn per_second(said: &str) -> Option<f64> {
    said.lines().last()?.rsplit_once('(')?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_read_from_the_summary() {
        let said = "faults:\n24 seeds, 0 failed; 1700 simulated seconds in 20 s (85 per second)\n";
        assert_eq!(per_second(said), Some(85.0));
        assert_eq!(per_second("nothing"), None);
    }
}
