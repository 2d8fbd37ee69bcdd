//! Slurm's compressed lists: hosts, `node[01-03,7],login`, and tasks per node, `2(x3),1`.

/// A longer list is a mistake rather than a cluster.
const MOST_HOSTS: usize = 1 << 16;

/// All hosts in order; numbers keep the leading zeros of the range.
pub fn expand(list: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for pattern in split_outside_brackets(list)? {
        hosts.extend(expand_pattern(pattern)?);
        if hosts.len() > MOST_HOSTS {
            return Err(format!("more than {MOST_HOSTS} hosts"));
        }
    }
    if hosts.is_empty() {
        return Err("it names no host".into());
    }
    Ok(hosts)
}

/// How many tasks run on node number `node`.
pub fn tasks_on(list: &str, node: usize) -> Option<usize> {
    let mut before = 0;
    for part in list.split(',') {
        let (tasks, nodes) = match part.trim().split_once("(x") {
            Some((tasks, nodes)) => (tasks, nodes.strip_suffix(')')?.parse::<usize>().ok()?),
            None => (part.trim(), 1),
        };
        before += nodes;
        if node < before {
            return tasks.parse().ok();
        }
    }
    None
}

fn split_outside_brackets(list: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (at, c) in list.char_indices() {
        match c {
            '[' if open => return Err("a bracket within a bracket".into()),
            '[' => open = true,
            ']' if !open => return Err("a bracket is closed that was not opened".into()),
            ']' => open = false,
            ',' if !open => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err("a bracket is not closed".into());
    }
    parts.push(list[start..].trim());
    match parts.iter().all(|part| !part.is_empty()) {
        true => Ok(parts),
        false => Err("it has an empty entry".into()),
    }
}

/// `rack[1-2]n[0-3]`: every bracket multiplies, and the last one changes fastest.
fn expand_pattern(pattern: &str) -> Result<Vec<String>, String> {
    let Some((head, rest)) = pattern.split_once('[') else { return Ok(vec![pattern.to_string()]) };
    let (ranges, tail) = rest.split_once(']').ok_or("a bracket is not closed")?;
    let tails = expand_pattern(tail)?;
    let numbers = expand_ranges(ranges)?;
    if numbers.len().saturating_mul(tails.len()) > MOST_HOSTS {
        return Err(format!("more than {MOST_HOSTS} hosts"));
    }
    let each = |number: &String| tails.iter().map(|tail| format!("{head}{number}{tail}")).collect::<Vec<_>>();
    Ok(numbers.iter().flat_map(each).collect())
}

fn expand_ranges(ranges: &str) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parse = |text: &str| text.parse::<usize>().map_err(|_| format!("{range:?} is not a range of numbers"));
        let (from, to) = (parse(first)?, parse(last)?);
        if to < from || to - from >= MOST_HOSTS {
            return Err(format!("{range:?} is not a range of numbers"));
        }
        numbers.extend((from..=to).map(|number| format!("{number:0width$}", width = first.len())));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_expand_in_order() {
        let cases: [(&str, &[&str]); 7] = [
            ("login", &["login"]),
            ("node[01-03,7]", &["node01", "node02", "node03", "node7"]),
            ("node[01-03,7],gpu-a", &["node01", "node02", "node03", "node7", "gpu-a"]),
            ("a,b", &["a", "b"]),
            ("n[8-11]", &["n8", "n9", "n10", "n11"]),
            ("rack[1-2]n[0-1]", &["rack1n0", "rack1n1", "rack2n0", "rack2n1"]),
            ("gpu[1].cluster", &["gpu1.cluster"]),
        ];
        for (list, hosts) in cases {
            assert_eq!(expand(list).expect(list), hosts, "{list}");
        }
    }

    #[test]
    fn malformed_lists_are_refused() {
        for list in ["", "node[", "node]", "node[1-]", "node[3-1]", "node[a]", "a,,b", "n[[1]]", "n[0-99999999]"] {
            assert!(expand(list).is_err(), "{list}");
        }
    }

    #[test]
    fn tasks_per_node_are_counted() {
        let cases = [("4", 0, Some(4)), ("2(x3),1", 2, Some(2)), ("2(x3),1", 3, Some(1)), ("2(x3),1", 4, None)];
        for (list, node, tasks) in cases {
            assert_eq!(tasks_on(list, node), tasks, "{list} on {node}");
        }
        assert_eq!(tasks_on("x", 0), None);
    }
}
