//! Platforms and how they are matched (containerd's platforms package: database.go, compare.go).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{Error, excerpt};

/// What an image runs on, normalised as containerd does: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture, as Go calls it.
    pub architecture: String,
    /// Operating system, as Go calls it.
    pub os: String,
    /// Windows only: the build that the image was made for.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed.
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// Variant of the architecture, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Makes a normalised platform.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: None,
            variant: variant.map(str::to_owned),
        }
        .normalized()
    }

    /// Returns the platform that this program was built for, which is the daemon's own on a node.
    #[must_use]
    pub fn host() -> Self {
        let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
        Self::new(os, std::env::consts::ARCH, None)
    }

    /// Returns the normal form, by which platforms are compared.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = match self.os.to_lowercase().as_str() {
            "macos" => "darwin".into(),
            os => os.into(),
        };
        let variant = self.variant.take().unwrap_or_default().to_lowercase();
        let (architecture, variant) = match self.architecture.to_lowercase().as_str() {
            "i386" | "x86" => ("386".to_owned(), String::new()),
            "x86_64" | "x86-64" | "amd64" => {
                ("amd64".to_owned(), if variant == "v1" { String::new() } else { variant })
            }
            "aarch64" | "arm64" => (
                "arm64".to_owned(),
                match variant.as_str() {
                    "8" | "v8" | "v8.0" => String::new(),
                    "9" | "9.0" | "v9.0" => "v9".into(),
                    _ => variant,
                },
            ),
            "armhf" => ("arm".to_owned(), "v7".into()),
            "armel" => ("arm".to_owned(), "v6".into()),
            "arm" => (
                "arm".to_owned(),
                match variant.as_str() {
                    "" | "7" => "v7".into(),
                    "5" | "6" | "8" => format!("v{variant}"),
                    _ => variant,
                },
            ),
            "powerpc64le" => ("ppc64le".to_owned(), variant),
            "loongarch64" => ("loong64".to_owned(), variant),
            "s390x" => ("s390x".to_owned(), variant),
            other => (other.to_owned(), variant),
        };
        self.architecture = architecture;
        self.variant = (!variant.is_empty()).then_some(variant);
        self
    }

    /// Returns whether it stands for nothing that runs, as BuildKit's attestations say.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// Lists the platforms that this one can run, the best first.
    #[must_use]
    pub fn vector(&self) -> Vec<Self> {
        let with = |architecture: &str, variant: Option<String>| Self {
            architecture: architecture.to_owned(),
            variant,
            ..self.clone()
        };
        let mut all = vec![self.clone()];
        let number = self.variant.as_deref().and_then(|v| v.strip_prefix('v'));
        match self.architecture.as_str() {
            "amd64" => {
                if let Some(level) = number.and_then(|v| v.parse::<u32>().ok()) {
                    all.extend((2..level).rev().map(|v| with("amd64", Some(format!("v{v}")))));
                    if level > 1 {
                        all.push(with("amd64", None));
                    }
                }
                all.push(with("386", None));
            }
            "arm" => {
                if let Some(level) = number.and_then(|v| v.parse::<u32>().ok()) {
                    all.extend((5..level).rev().map(|v| with("arm", Some(format!("v{v}")))));
                }
            }
            "arm64" => {
                let (major, minor) = number.map_or((8, 0), |v| {
                    let (major, minor) = v.split_once('.').unwrap_or((v, "0"));
                    (major.parse::<u32>().unwrap_or(8), minor.parse::<u32>().unwrap_or(0))
                });
                let name = |major: u32, minor: u32| match (major, minor) {
                    (8, 0) => None,
                    (major, 0) => Some(format!("v{major}")),
                    (major, minor) => Some(format!("v{major}.{minor}")),
                };
                all.extend((0..minor).rev().map(|m| with("arm64", name(major, m))));
                if major == 9 {
                    // Armv9.x contains Armv8.(x+5).
                    all.extend((0..=minor + 5).rev().map(|m| with("arm64", name(8, m))));
                }
                all.extend((5..=8).rev().map(|v| with("arm", Some(format!("v{v}")))));
            }
            _ => {}
        }
        all
    }

    fn same(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture && self.variant == other.variant
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `os/arch[/variant]`, or an `os` or an `arch` alone, the rest being the host's.
    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason| Error::Platform { text: excerpt(text), reason };
        let parts: Vec<_> = text.split('/').collect();
        if parts.iter().any(|p| {
            !p.starts_with(|c: char| c.is_ascii_alphanumeric())
                || !p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        }) {
            return Err(fail("each part is a letter or digit, then letters, digits, _, - and ."));
        }
        let host = Self::host();
        match parts[..] {
            [one] => {
                let lower = one.to_lowercase();
                if matches!(lower.as_str(), "linux" | "windows" | "darwin" | "macos" | "freebsd" | "netbsd" | "openbsd")
                {
                    return Ok(Self::new(&lower, &host.architecture, host.variant.as_deref()));
                }
                let guess = Self::new(&host.os, one, None);
                if matches!(
                    guess.architecture.as_str(),
                    "amd64"
                        | "386"
                        | "arm"
                        | "arm64"
                        | "ppc64le"
                        | "ppc64"
                        | "s390x"
                        | "riscv64"
                        | "loong64"
                        | "mips64le"
                        | "mips64"
                        | "mipsle"
                        | "mips"
                        | "wasm"
                ) {
                    return Ok(guess);
                }
                Err(fail("it is neither an operating system nor an architecture"))
            }
            [os, arch] => Ok(Self::new(os, arch, None)),
            [os, arch, variant] => Ok(Self::new(os, arch, Some(variant))),
            _ => Err(fail("it has more than three parts")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

/// Which platforms are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// Every one.
    All,
    /// The best match of each of these.
    Any(Vec<Platform>),
}

impl Matcher {
    /// Returns the matcher for the host's own platform.
    #[must_use]
    pub fn host() -> Self {
        Self::Any(vec![Platform::host()])
    }

    /// Returns a matcher for each of the platforms that are wanted.
    #[must_use]
    pub fn each(&self) -> Vec<Self> {
        match self {
            Self::All => vec![Self::All],
            Self::Any(wanted) => wanted.iter().map(|one| Self::Any(vec![one.clone()])).collect(),
        }
    }

    /// Returns how well a platform fits: `None` when not at all, else a rank, smaller is better.
    #[must_use]
    pub fn rank(&self, platform: &Platform) -> Option<usize> {
        let platform = platform.clone().normalized();
        match self {
            Self::All => Some(0),
            Self::Any(wanted) => {
                wanted.iter().flat_map(Platform::vector).position(|candidate| candidate.same(&platform))
            }
        }
    }

    /// Compares two platforms by how well they fit, the better first.
    #[must_use]
    pub fn compare(&self, a: &Platform, b: &Platform) -> Ordering {
        self.rank(a).unwrap_or(usize::MAX).cmp(&self.rank(b).unwrap_or(usize::MAX))
    }

    /// Picks the entries of an index that are wanted: all, or for each wanted platform the best one.
    ///
    /// Entries without a platform are kept last: their config decides. Attestations count only when everything is wanted.
    #[must_use]
    pub fn select<'a>(&self, manifests: &'a [super::Descriptor]) -> Vec<&'a super::Descriptor> {
        let Self::Any(wanted) = self else {
            return manifests.iter().collect();
        };
        let mut chosen: Vec<&super::Descriptor> = Vec::new();
        for one in wanted {
            let vector = one.vector();
            let best = manifests
                .iter()
                .filter(|d| !d.is_attestation())
                .filter_map(|d| {
                    let platform = d.platform.clone()?.normalized();
                    let rank = vector.iter().position(|candidate| candidate.same(&platform))?;
                    Some((rank, d))
                })
                .min_by_key(|(rank, _)| *rank);
            if let Some((_, descriptor)) = best
                && !chosen.iter().any(|d| d.digest == descriptor.digest)
            {
                chosen.push(descriptor);
            }
        }
        if chosen.is_empty() {
            chosen.extend(manifests.iter().filter(|d| d.platform.is_none() && !d.is_attestation()));
        }
        chosen
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any(list) => {
                for (i, platform) in list.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{platform}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_are_normalised() {
        for (given, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/i386", "linux/386"),
        ] {
            assert_eq!(p(given).to_string(), normal, "{given}");
        }
        assert!("linux/".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
        assert!("linux/../etc".parse::<Platform>().is_err());
    }

    #[test]
    fn a_newer_cpu_takes_older_code_best_first() {
        let v3 = Matcher::Any(vec![p("linux/amd64/v3")]);
        assert!(v3.rank(&p("linux/amd64/v3")) < v3.rank(&p("linux/amd64/v2")));
        assert!(v3.rank(&p("linux/amd64/v2")) < v3.rank(&p("linux/amd64")));
        assert!(v3.rank(&p("linux/amd64")) < v3.rank(&p("linux/386")));
        assert_eq!(v3.rank(&p("linux/amd64/v4")), None);
        let arm64 = Matcher::Any(vec![p("linux/arm64")]);
        assert!(arm64.rank(&p("linux/arm64")) < arm64.rank(&p("linux/arm/v7")));
        assert!(arm64.rank(&p("linux/arm/v7")) < arm64.rank(&p("linux/arm/v5")));
        let v9 = Matcher::Any(vec![p("linux/arm64/v9")]);
        assert!(v9.rank(&p("linux/arm64/v8.5")).is_some());
        assert_eq!(v9.rank(&p("linux/arm64/v8.6")), None);
    }
}
