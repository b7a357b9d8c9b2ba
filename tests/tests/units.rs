//! The systemd units: systemd finds no fault with them, and calls them well locked up. Skipped by name without
//! `systemd-analyze`. What they do on a running machine is in `tests/deploy/machine`.

use coffer_tests::Outcome;
use coffer_tests::node::program;
use std::io::Write;
use std::process::Command;

/// `systemd-analyze security` gives 0 (nothing is exposed) to 10.
const LARGEST_EXPOSURE: f64 = 2.0;

#[test]
fn systemd_finds_no_fault_with_the_units() -> Outcome {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        coffer_stdx::testing::skip("units::systemd_finds_no_fault_with_the_units", "no systemd-analyze here");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    for role in ["fe", "be", "broker"] {
        let name = format!("coffer-{role}.service");
        let text = std::fs::read_to_string(coffer_tests::crate_dir().join("../deploy/systemd").join(&name))?;
        let installed = format!("/usr/bin/coffer-{role}");
        assert!(text.contains(&installed), "{name}");
        let unit = dir.path().join(&name);
        std::fs::write(&unit, text.replace(&installed, &program(&format!("coffer-{role}"))?.display().to_string()))?;
        let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output()?;
        let said = String::from_utf8_lossy(&verify.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("coffer")).collect();
        assert!(verify.status.success() && ours.is_empty(), "{name}: {said}");
        let security = Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(&unit).output()?;
        let shown = String::from_utf8_lossy(&security.stdout).into_owned();
        let exposure = shown.split("exposure level for").nth(1).and_then(|line| line.split_whitespace().nth(1));
        let exposure: f64 = exposure.and_then(|number| number.parse().ok()).unwrap_or(10.0);
        writeln!(std::io::stderr(), "{name}: exposure {exposure}")?;
        assert!(exposure < LARGEST_EXPOSURE, "{name} is exposed at {exposure}: {shown}");
    }
    Ok(())
}
