//! Every reader of the project has a test with hostile input: the table is compared with the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use hawser_hostile::{NOT_READERS, READERS};

/// Where programs are. What only tests and measures reads what its own tests wrote.
const ROOMS: [&str; 9] = [
    "proto/src",
    "process/src",
    "client/src",
    "controller/src",
    "controller/state/src",
    "satellite/src",
    "satellite/plan/src",
    "cli/src",
    "tests/lab/src",
];

/// What a file does that makes something of bytes or text.
const MARKS: [&str; 16] = [
    "serde_json::from_",
    "toml::from_",
    "configuration::load",
    "load::<",
    "::decode(",
    "decode_length_delimited(",
    "from_le_bytes",
    "from_be_bytes",
    "from_utf8",
    "from_str_radix",
    "from_der(",
    "from_pem_slice(",
    ".parse()",
    ".parse::<",
    "FromStr for",
    "split_once(",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies two levels down").to_owned()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the room is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Modules that a room compiles for its tests only, by the file name.
fn is_for_tests(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name == "tests"
        || name.ends_with("_tests")
        || ["fixture", "sequences"].contains(&name)
        || path.ends_with("bin/hawser-power-cut.rs")
}

/// The source without the modules that it compiles for tests only, and without comments.
fn program(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with(" {")) {
            lines.by_ref().find(|line| *line == "}");
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn reading_files() -> BTreeSet<String> {
    let root = root();
    let mut found = Vec::new();
    for room in ROOMS {
        sources(&root.join(room), &mut found);
    }
    found
        .into_iter()
        .filter(|path| !is_for_tests(path))
        .filter(|path| {
            let text = program(&fs::read_to_string(path).expect("a source is text"));
            MARKS.iter().any(|mark| text.contains(mark))
        })
        .map(|path| path.strip_prefix(&root).expect("it lies below the root").display().to_string())
        .collect()
}

#[test]
fn every_file_that_reads_something_is_in_the_table() {
    let listed: BTreeSet<&str> =
        READERS.iter().map(|reader| reader.file).chain(NOT_READERS.iter().map(|(file, _)| *file)).collect();
    let missing: Vec<String> =
        reading_files().into_iter().filter(|file| !listed.contains(file.as_str())).collect();
    assert!(
        missing.is_empty(),
        "these files make something of bytes or text, and tests/hostile/src/readers.rs does not list them; give \
         each reader a test with hostile input and a line in READERS, or say in NOT_READERS why it needs none:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_line_of_the_table_is_true() {
    let reading = reading_files();
    for reader in READERS {
        let (file, test) = reader.test.split_once("::").expect("a test is FILE::NAME");
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(text.contains(&format!("fn {test}(")), "{}: there is no test {test} in {file}", reader.reads);
        assert!(root().join(reader.file).exists(), "{}: there is no {} any more", reader.reads, reader.file);
    }
    for (file, why) in NOT_READERS {
        assert!(reading.contains(*file), "{file} reads nothing any more");
        assert!(!why.is_empty(), "{file} without a reason");
    }
}
