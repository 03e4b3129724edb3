//! Three sandboxes on a bridge: a web server, a client that may talk to it, and one that may not; and what a bridge costs.
//!
//! ```sh
//! sudo unshare --net cargo run --release --features net --example network
//! ```
//!
//! `unshare` keeps the bridge out of the machine's own network; the example works without it, too. It needs
//! `/usr/bin/python3`.

#![allow(clippy::print_stdout, reason = "it is an example")]

use std::time::{Duration, Instant};

use belljar::{Bridge, Command, Egress, Network, Sandbox, Stdio};

const FETCH: &str = "
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode().strip())
except OSError as error:
    sys.exit(str(getattr(error, 'reason', error)))
";

fn main() -> belljar::Result<()> {
    let bridge = Bridge::new("belljar0").subnet("10.10.0.0/24").create()?;

    // The server may answer, and begin nothing.
    let server = Sandbox::new().network(Network::bridge(&bridge).egress(Egress::deny_all())).start()?;
    let address = server.addresses()[0];
    server.copy_in(&b"hello from the other sandbox\n"[..], "/tmp/index.html", 0o644, 4096)?;
    let mut serve = Command::new("/usr/bin/python3");
    serve
        .args(["-m", "http.server", "8000", "--directory", "/tmp"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _running = server.spawn(&serve)?;
    await_server(&format!("{address}:8000"));

    let url = format!("http://{address}:8000/");
    let mut fetch = Command::new("/usr/bin/python3");
    fetch.args(["-c", FETCH, &url]);

    // One rule, for one service.
    let rule = format!("{address}:8000");
    let client = Sandbox::new().network(Network::bridge(&bridge).egress(Egress::deny_all().allow(rule)));
    let output = client.output(&fetch)?;
    println!("client:   {}", String::from_utf8_lossy(&output.stdout).trim());
    for count in &output.outcome.egress {
        println!("          {}: {} packets", count.rule, count.traffic.packets);
    }
    if let (Some(sent), Some(received)) = (output.outcome.usage.sent, output.outcome.usage.received) {
        println!("          {} bytes sent, {} received", sent.bytes, received.bytes);
    }
    assert!(output.outcome.success());

    // Nobody else, not even with a rule for the whole world.
    let stranger =
        Sandbox::new().network(Network::bridge(&bridge).egress(Egress::deny_all().allow("0.0.0.0/0")));
    let output = stranger.output(&fetch)?;
    println!("stranger: {}", String::from_utf8_lossy(&output.stderr).trim());
    assert!(!output.outcome.success());

    // What a wire costs.
    let (alone, wired) = (Sandbox::new(), Sandbox::new().network(Network::bridge(&bridge)));
    let (alone, wired) = (median_run(&alone)?, median_run(&wired)?);
    println!("a run of /bin/true: {alone:.1?} without a network, {wired:.1?} on a bridge");
    Ok(())
}

/// The median of 100 runs.
fn median_run(sandbox: &Sandbox) -> belljar::Result<Duration> {
    let plan = sandbox.plan()?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        plan.output(Command::new("/bin/true"))?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The host reaches every sandbox.
fn await_server(address: &str) {
    let patience = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
}
