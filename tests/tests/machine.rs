//! Packages and units on a machine with a running systemd: `tests/deploy/machine` tells the story. Skipped by name where
//! such a machine cannot be booted (`tests/servers/machine` says what it needs).

use coffer_tests::Outcome;
use coffer_tests::node::program;
use std::path::Path;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn packages_install_run_upgrade_and_go() -> Outcome {
    let tests = coffer_tests::crate_dir();
    if !Command::new(tests.join("servers/machine")).arg("installed").status().await?.success() {
        let reason = "no machine with systemd can be booted here (tests/servers/machine install, as root)";
        coffer_stdx::testing::skip("machine::packages_install_run_upgrade_and_go", reason);
        return Ok(());
    }
    let cofferctl = program("cofferctl")?;
    let binaries = cofferctl.parent().unwrap_or(Path::new("."));
    let output = Command::new(tests.join("deploy/machine")).arg(binaries).kill_on_drop(true).output().await?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("ok: purged"), "{said}");
    Ok(())
}
