//! `hawser-satellite fence-peer`: what DRBD starts when a Primary has lost its peer, or a node is promoted
//! without it.
//!
//! It exits 4 on a committed yes and 1 on a committed no. It must never exit 5: DRBD 8.4 then takes the peer
//! for dead and goes on writing. On a Primary it waits without a deadline, also while its satellite restarts,
//! because the kernel does not ask twice. During a promotion the kernel holds the resource's lock, so there
//! it has an answer within seconds or gives up.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};

use super::question::{AskedAs, FenceAnswer, FenceQuestion, LONGEST_LINE};

/// The peer is outdated: DRBD goes on.
pub const PEER_OUTDATED: u8 = 4;
/// DRBD stays frozen, or refuses the promotion.
pub const REFUSED: u8 = 1;

/// How long a promotion may be kept waiting.
const PROMOTION: Duration = Duration::from_secs(3);
/// Between two tries to reach the satellite.
const PAUSE: Duration = Duration::from_millis(200);

/// What DRBD calls the helper with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `DRBD_RESOURCE`.
    pub resource: String,
    /// `DRBD_PEER`, the peer's `uname -n`.
    pub peer: Option<String>,
    /// The first of `DRBD_MINOR`.
    pub minor: Option<u32>,
}

impl Call {
    /// Reads DRBD's environment variables through `variable`.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let resource = variable("DRBD_RESOURCE")
            .filter(|resource| !resource.is_empty())
            .ok_or("DRBD_RESOURCE is not set: this command is for DRBD's fence-peer handler")?;
        let minor = variable("DRBD_MINOR")
            .or_else(|| variable("DRBD_MINOR_0"))
            .and_then(|minors| minors.split_whitespace().next()?.parse().ok());
        Ok(Self { resource, peer: variable("DRBD_PEER").filter(|peer| !peer.is_empty()), minor })
    }
}

/// The local role of `minor` in what DRBD 8.4 shows as `/proc/drbd`; reading that takes no lock of DRBD's.
pub fn role_of(proc_drbd: &str, minor: u32) -> AskedAs {
    let role = proc_drbd.lines().find_map(|line| {
        let (number, states) = line.trim_start().split_once(':')?;
        if number.parse() != Ok(minor) {
            return None;
        }
        states.split_whitespace().find_map(|word| word.strip_prefix("ro:")?.split('/').next())
    });
    match role {
        Some("Primary") => AskedAs::Primary,
        Some("Secondary") => AskedAs::Secondary,
        _ => AskedAs::Unknown,
    }
}

/// Asks the satellite at `socket`. Returns the exit status.
pub async fn fence_peer(socket: &Path, question: &FenceQuestion) -> u8 {
    let asked = ask_until_answered(socket, question);
    let answer = if question.role == AskedAs::Secondary {
        timeout(PROMOTION, asked).await.unwrap_or_else(|_| FenceAnswer {
            outdated: false,
            reason: "the satellite has not answered in time".to_owned(),
        })
    } else {
        asked.await
    };
    tracing::info!(?question, outdated = answer.outdated, reason = answer.reason, "fence-peer");
    if answer.outdated { PEER_OUTDATED } else { REFUSED }
}

async fn ask_until_answered(socket: &Path, question: &FenceQuestion) -> FenceAnswer {
    loop {
        match ask(socket, question).await {
            Ok(answer) => return answer,
            Err(error) => tracing::debug!(%error, "the satellite has not answered yet"),
        }
        sleep(PAUSE).await;
    }
}

async fn ask(socket: &Path, question: &FenceQuestion) -> io::Result<FenceAnswer> {
    let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(reader.take(LONGEST_LINE)).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};
    use tokio::net::UnixListener;

    use super::*;

    const PROC_DRBD: &str = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 211FB288A383ED945B83420 \n\n \
         1000: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r--s--\n    \
         ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n \
         1001: cs:WFConnection ro:Secondary/Unknown ds:Consistent/DUnknown C r-----\n 1002: cs:Unconfigured\n";

    #[test]
    fn the_role_is_read_by_minor() {
        for (minor, expected) in [
            (1000, AskedAs::Primary),
            (1001, AskedAs::Secondary),
            (1002, AskedAs::Unknown),
            (100, AskedAs::Unknown),
        ] {
            assert_eq!(role_of(PROC_DRBD, minor), expected, "{minor}");
        }
        assert_eq!(role_of("version: 9.3.3 (api:2/proto:118-124)\n", 1000), AskedAs::Unknown);
    }

    #[test]
    fn the_call_is_read_from_the_environment() {
        let full = |name: &str| match name {
            "DRBD_RESOURCE" => Some("vol1.7".to_owned()),
            "DRBD_PEER" => Some("n2".to_owned()),
            "DRBD_MINOR" => Some("1000 1001".to_owned()),
            _ => None,
        };

        let call = Call::read(full).unwrap();

        assert_eq!(call, Call { resource: "vol1.7".into(), peer: Some("n2".into()), minor: Some(1000) });
        assert!(Call::read(|_| None).unwrap_err().contains("DRBD_RESOURCE is not set"));
    }

    #[test]
    fn hostile_contents_of_proc_drbd() {
        check(&texts(&[PROC_DRBD], &["ro:Primary/", "ro:Secondary/", "1000:", "ro:"]), |text| match role_of(
            &text, 1000,
        ) {
            AskedAs::Primary => assert!(text.contains("ro:Primary")),
            AskedAs::Secondary => assert!(text.contains("ro:Secondary")),
            AskedAs::Unknown => {}
        });
    }

    #[test]
    fn hostile_environments() {
        check(&texts(&["vol1.7", "n2", "1000 1001"], &[]), |text| match Call::read(|_| Some(text.clone())) {
            Ok(call) => assert_eq!((&call.resource, call.peer.as_ref()), (&text, Some(&text))),
            Err(words) => assert!(words.contains("DRBD_RESOURCE"), "{words}"),
        });
    }

    fn question(role: AskedAs) -> FenceQuestion {
        FenceQuestion { resource: "vol1.7".into(), peer: Some("n2".into()), role }
    }

    #[tokio::test]
    async fn a_primary_waits_while_the_satellite_is_away_and_takes_the_next_ones_answer() {
        for (outdated, status) in [(true, PEER_OUTDATED), (false, REFUSED)] {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("socket");
            let first = UnixListener::bind(&socket).unwrap();
            let asking = {
                let socket = socket.clone();
                tokio::spawn(async move { fence_peer(&socket, &question(AskedAs::Primary)).await })
            };
            // The first satellite takes the question and ends without an answer.
            drop(first.accept().await.unwrap());
            drop(first);
            std::fs::remove_file(&socket).unwrap();

            let second = UnixListener::bind(&socket).unwrap();
            let (stream, _) = second.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut line = String::new();
            BufReader::new(reader).read_line(&mut line).await.unwrap();
            let asked: FenceQuestion = serde_json::from_str(&line).unwrap();
            let answer = FenceAnswer { outdated, reason: "committed".into() };
            writer
                .write_all(format!("{}\n", serde_json::to_string(&answer).unwrap()).as_bytes())
                .await
                .unwrap();

            assert_eq!(asked, question(AskedAs::Primary));
            assert_eq!(asking.await.unwrap(), status);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_satellite_a_promotion_is_refused_soon_and_a_primary_waits() {
        let nowhere = Path::new("/nonexistent/satellite.sock");

        assert_eq!(fence_peer(nowhere, &question(AskedAs::Secondary)).await, REFUSED);

        for role in [AskedAs::Primary, AskedAs::Unknown] {
            let long = Duration::from_secs(600);
            assert!(timeout(long, fence_peer(nowhere, &question(role))).await.is_err(), "{role:?}");
        }
    }
}
