//! The next page of a list (RFC 8288, as distribution-spec uses it).

use std::collections::HashSet;

use url::Url;

use super::Result;
use super::session::Done;
use super::target::Place;

/// How many pages of a list are read: a list without an end is somebody's trick.
const MAX_PAGES: usize = 10_000;

/// The pages of one list, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Pages(HashSet<Url>);

impl Pages {
    /// Returns the address of the page that follows an answer, if it names one.
    ///
    /// # Errors
    /// [`Error::Detour`](super::Error::Detour) when it is on another host: a list goes on where it began.
    /// [`Error::Nonsense`](super::Error::Nonsense) when the list runs in a circle or without an end.
    pub(super) fn after(&mut self, done: &Done) -> Result<Option<Place>> {
        let mut links = done.reply.headers().get_all("link").iter().filter_map(|value| value.to_str().ok());
        let Some(target) = links.find_map(parse) else { return Ok(None) };
        let place = done.place(target)?;
        if place.url.origin() != done.reply.url.origin() {
            return Err(done.reply.detour(&place.url, "the next page of a list must be on the same host"));
        }
        self.0.insert(done.reply.url.clone());
        if place.url == done.reply.url {
            return Err(done.reply.nonsense("the next page is the page itself"));
        }
        if self.0.contains(&place.url) {
            return Err(done.reply.nonsense("the next page is one that came before"));
        }
        if self.0.len() >= MAX_PAGES {
            return Err(done.reply.nonsense("the list has no end"));
        }
        Ok(Some(place))
    }
}

/// Returns the target of the header's link with `rel="next"`.
fn parse(mut header: &str) -> Option<&str> {
    loop {
        let (target, rest) = header.trim_start_matches([' ', '\t', ',']).strip_prefix('<')?.split_once('>')?;
        let end = end_of_parameters(rest);
        let is_next = rest[..end].split(';').filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && value.split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        header = &rest[end..];
    }
}

/// Finds the comma that ends a link's parameters, or the end.
fn end_of_parameters(text: &str) -> usize {
    let mut quoted = false;
    text.char_indices()
        .find(|(_, c)| {
            quoted ^= *c == '"';
            *c == ',' && !quoted
        })
        .map_or(text.len(), |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        assert_eq!(parse(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#), Some("/v2/a/tags/list?last=b&n=2"));
        assert_eq!(parse(r#"<x>; rel=prev; title="a, b", <y>; rel=next"#), Some("y"));
        assert_eq!(parse(r#"<x,y>;rel="last next""#), Some("x,y"));
        assert_eq!(parse("<x>; rel=prev"), None);
        assert_eq!(parse("nonsense"), None);
        assert_eq!(parse(""), None);
    }
}
