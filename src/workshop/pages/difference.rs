//! What changes from one text to another, as `diff -u` writes it: the longest shared subsequence of their lines is kept.

use std::fmt::Write;

/// Lines of the text that stay the same and are shown around a change.
const AROUND: usize = 3;

/// The changes with their surroundings; nothing when the texts are the same.
pub fn unified(from: &str, to: &str) -> String {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    let edits = edits(&from, &to);
    let mut out = String::new();
    let mut at = 0;
    while let Some(first) = (at..edits.len()).find(|at| edits[*at].0 != ' ') {
        // A hunk goes on as long as the next change is near.
        let mut last = first;
        while let Some(next) = (last + 1..edits.len().min(last + 2 * AROUND + 2)).find(|at| edits[*at].0 != ' ') {
            last = next;
        }
        let (begin, end) = (first.saturating_sub(AROUND).max(at), edits.len().min(last + AROUND + 1));
        let count = |range: std::ops::Range<usize>, sign| edits[range].iter().filter(|edit| edit.0 == ' ' || edit.0 == sign).count();
        let (old, new) = (count(0..begin, '-') + 1, count(0..begin, '+') + 1);
        let _ = writeln!(out, "@@ -{old},{} +{new},{} @@", count(begin..end, '-'), count(begin..end, '+'));
        for (sign, line) in &edits[begin..end] {
            let _ = writeln!(out, "{sign}{line}");
        }
        at = end;
    }
    out
}

/// Each line of both, with ` ` when it stays, `-` when it goes and `+` when it comes.
fn edits<'a>(from: &[&'a str], to: &[&'a str]) -> Vec<(char, &'a str)> {
    // shared[i][j]: how many lines from[i..] and to[j..] have in shared, at best. Steps have some 200 lines: 40,000 numbers.
    let mut shared = vec![vec![0u32; to.len() + 1]; from.len() + 1];
    for i in (0..from.len()).rev() {
        for j in (0..to.len()).rev() {
            shared[i][j] = if from[i] == to[j] { shared[i + 1][j + 1] + 1 } else { shared[i + 1][j].max(shared[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut edits) = (0, 0, Vec::new());
    while i < from.len() || j < to.len() {
        if i < from.len() && j < to.len() && from[i] == to[j] {
            edits.push((' ', from[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == to.len() || i < from.len() && shared[i + 1][j] >= shared[i][j + 1] {
            edits.push(('-', from[i]));
            i += 1;
        } else {
            edits.push(('+', to[j]));
            j += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_diff_says() {
        let from = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
        let to = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nk\nnew\nl\n";
        assert_eq!(unified(from, to), "@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -9,4 +9,5 @@\n i\n j\n k\n+new\n l\n");
        assert_eq!(unified(from, from), "");
    }

    #[test]
    fn what_it_says_makes_one_text_of_the_other() {
        let (from, to) = ("x\nsame\ny\nsame\nz\n", "same\nsame\nq\nz\nend\n");
        let edits = edits(&from.lines().collect::<Vec<_>>(), &to.lines().collect::<Vec<_>>());
        let side = |sign| edits.iter().filter(|edit| edit.0 == ' ' || edit.0 == sign).map(|edit| format!("{}\n", edit.1)).collect::<String>();
        assert_eq!((side('-'), side('+')), (from.to_string(), to.to_string()));
    }
}
