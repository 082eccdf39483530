//! The date for chat templates (`strftime_now`), in UTC: the local zone would need the system's database.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// `strftime` for the letters that templates use; others stay as they are.
pub(super) fn format(format: &str, seconds: u64) -> String {
    let days = seconds / 86400;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // No template needs dates after the year 9999; the bound keeps the loop short whatever the clock says.
    let mut day_of_year = days.min(2_900_000);
    let mut year = 1970;
    while day_of_year >= 365 + u64::from(is_leap(year)) {
        day_of_year -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut day = day_of_year;
    let mut month = 0;
    let length = |m: usize| match m {
        1 => 28 + u64::from(is_leap(year)),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    while month < 11 && day >= length(month) {
        day -= length(month);
        month += 1;
    }
    let weekday = usize::try_from(days % 7).unwrap_or(0);
    let (weekday, month_name) = (DAYS[weekday], MONTHS[month]);
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year % 100)),
            Some('m') => out.push_str(&format!("{:02}", month + 1)),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('d') => out.push_str(&format!("{:02}", day + 1)),
            Some('e') => out.push_str(&format!("{:2}", day + 1)),
            Some('j') => out.push_str(&format!("{:03}", day_of_year + 1)),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{half:02}")),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{second:02}")),
            Some('F') => out.push_str(&format!("{year}-{:02}-{:02}", month + 1, day + 1)),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => out.push_str("UTC"),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::format;

    // Expected: `date -u -d @SECONDS +FORMAT`.
    #[test]
    fn known_dates() {
        let all = "%A %a %d %B %b %Y %y %m %j %H:%M:%S %I%p %F";
        let cases = [
            (0, "Thursday Thu 01 January Jan 1970 70 01 001 00:00:00 12AM 1970-01-01"),
            (
                951_782_400,
                "Tuesday Tue 29 February Feb 2000 00 02 060 00:00:00 12AM 2000-02-29",
            ),
            (
                1_735_689_599,
                "Tuesday Tue 31 December Dec 2024 24 12 366 23:59:59 11PM 2024-12-31",
            ),
            (
                4_107_542_400,
                "Monday Mon 01 March Mar 2100 00 03 060 00:00:00 12AM 2100-03-01",
            ),
        ];
        for (seconds, text) in cases {
            assert_eq!(format(all, seconds), text);
        }
        assert_eq!(format("100%% %Q %", 0), "100% %Q %");
        assert!(format("%Y", u64::MAX).len() == 4);
    }
}
