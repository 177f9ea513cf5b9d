//! nmap judges what an outsider learns of the engine's numbers: initial sequence numbers must be as
//! hard to predict as random ones, and neither IP identifiers nor timestamps may count.

use crate::engine::{Engine, KERNEL, SERVER};
use crate::lab::{End, Lab};

/// Scans at most. The index of one scan is taken from six numbers, and for numbers that are random it
/// is below 255 in one scan of five: a statistic, which counts when it is repeated.
const SCANS_MAX: usize = 6;

/// What nmap calls as hard to predict as it gets, and what no scan of random numbers falls below.
const INDEX_GOOD: u32 = 255;
const INDEX_MIN: u32 = 235;

/// The value of an attribute of an element that stands once in the output of nmap.
fn attribute<'a>(xml: &'a str, element: &str, name: &str) -> &'a str {
    let found = xml.split_once(&format!("<{element} ")).and_then(|(_, rest)| {
        let (attributes, _) = rest.split_once("/>")?;
        let (_, value) = attributes.split_once(&format!("{name}=\""))?;
        Some(value.split_once('"')?.0)
    });
    found.unwrap_or_else(|| panic!("expected {name} of {element} in\n{xml}"))
}

#[test]
fn an_outsider_cannot_predict_the_numbers_of_the_engine() {
    let lab = Lab::new(&[(End::Client, &format!("{KERNEL}/24"))]);
    let engine = Engine::server(&lab);
    let mut indexes: Vec<u32> = Vec::new();
    while indexes.len() < SCANS_MAX && indexes.iter().all(|&index| index < INDEX_GOOD) {
        let scan = format!("nmap -O --max-os-tries 1 -n -p 80,8099 -oX - {SERVER}");
        let xml = lab.run(End::Client, &scan).expect_status(0).out;
        assert!(xml.contains("<state state=\"open\""), "port 80 is open:\n{xml}");
        assert!(xml.contains("<state state=\"closed\""), "port 8099 is closed:\n{xml}");
        assert_eq!(attribute(&xml, "tcpsequence", "difficulty"), "Good luck!", "{xml}");
        let index = attribute(&xml, "tcpsequence", "index");
        indexes.push(index.parse().expect("the index is a number"));
        // With DF set the identifier says nothing, and so is 0 (RFC 6864 section 4.1).
        assert_eq!(attribute(&xml, "ipidsequence", "class"), "All zeros", "{xml}");
        // A clock would be named with its rate. What nmap makes of random offsets is no uptime.
        assert_eq!(attribute(&xml, "tcptssequence", "class"), "other", "{xml}");
    }
    assert!(indexes.iter().all(|&index| index >= INDEX_MIN), "the indexes are {indexes:?}");
    assert!(indexes.iter().any(|&index| index >= INDEX_GOOD), "the indexes are {indexes:?}");
    // It has not hurt: what the probes left half-open is reset by the prober's kernel.
    engine.await_stat("conns_open", 0);
    let curl = format!("curl -sS --fail --max-time 20 -o /dev/null http://{SERVER}/bytes/100000");
    lab.run(End::Client, &curl).expect_status(0);
    engine.stop();
}
