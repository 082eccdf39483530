//! What this process holds of the machine's memory, where the system says it (Linux).

/// Bytes.
pub struct Memory {
    /// All that is resident, now and at its most.
    pub resident: usize,
    pub peak: usize,
    /// What no file backs.
    pub anonymous: usize,
}

/// What the process holds now.
pub fn memory() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        let kilobytes = line.trim().strip_suffix(" kB")?.trim();
        kilobytes.parse::<usize>().ok()?.checked_mul(1024)
    };
    Some(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
        anonymous: field("RssAnon:")?,
    })
}

/// A number of bytes as it is typed: `300M`, `2G`, `1500000`; K, M and G are powers of 1000, with an i of 1024.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().trim_end_matches(['b', 'B']) {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("a number of bytes such as 300M, 2G or 512Mi is expected".into()),
    };
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n * unit < 1e18 => Ok((n * unit) as usize),
        _ => Err("a number of bytes such as 300M, 2G or 512Mi is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn bytes_are_read_as_they_are_typed() {
        for (text, bytes) in [
            ("1500", 1500),
            ("300M", 300_000_000),
            ("0.5 GB", 500_000_000),
            ("2Ki", 2048),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-3M", "3T", "1e99G", "nan", "0"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
