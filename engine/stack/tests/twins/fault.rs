//! A planted fault: one piece of the stack's source, what to put in its place, and the script that
//! must notice. `NAME.fault` holds a comment, `file PATH`, `caught by SCRIPT`, and the two pieces
//! after lines that say `--- was` and `--- is`.

use std::fs;
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: String,
    /// From the folder of the crate.
    pub(crate) file: String,
    pub(crate) script: String,
    was: String,
    is: String,
}

impl Fault {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Fault, String> {
        let line = |start: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(start));
            found.map(str::to_owned).ok_or_else(|| format!("{name}: expected a line `{start}...`"))
        };
        let (was, is) = text
            .split_once("--- was\n")
            .and_then(|(_, rest)| rest.split_once("--- is\n"))
            .ok_or_else(|| format!("{name}: expected lines `--- was` and `--- is`"))?;
        let (file, script) = (line("file ")?, line("caught by ")?);
        let (was, is) = (was.trim_end().to_owned(), is.trim_end().to_owned());
        Ok(Fault { name: name.to_owned(), file, script, was, is })
    }

    /// The source with the fault in it; an error when the piece is not there exactly once.
    pub(crate) fn plant(&self, source: &str) -> Result<String, String> {
        match source.matches(&self.was).count() {
            1 => Ok(source.replacen(&self.was, &self.is, 1)),
            n => Err(format!(
                "{}.fault: expected its text once in {}, found it {n} times: follow the source",
                self.name, self.file
            )),
        }
    }
}

/// All faults of the folder, by name.
pub(crate) fn all(stack: &Path) -> Vec<Fault> {
    let folder = stack.join("tests/twins");
    let mut faults = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder of faults can be read") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "fault") {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            let text = fs::read_to_string(&path).expect("a fault is text");
            faults.push(Fault::parse(name, &text).unwrap_or_else(|error| panic!("{error}")));
        }
    }
    faults.sort_by(|a, b| a.name.cmp(&b.name));
    faults
}
