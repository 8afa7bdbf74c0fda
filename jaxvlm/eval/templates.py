"""Templates and style sheet of a report; `report` fills them in."""

TABLE = """\
<figure class="table"><figcaption>{{ caption }}</figcaption>
<div class="scroll"><table{% if text_columns > 1 %} class="grouped"{% endif %}>
<thead><tr>{% for cell in header %}
<th{% if loop.index0 < text_columns %} class="t"{% endif %}>{{ cell }}</th>
{% endfor %}</tr></thead>
<tbody>{% for row in rows %}
{% set same = not loop.first and rows[loop.index0 - 1][0] == row[0] %}
<tr{% if not same and text_columns > 1 %} class="group"{% endif %}>
{% for cell in row %}
<td{% if loop.index0 < text_columns %} class="t"{% endif %}>
{%- if not (loop.first and same) %}{{ cell }}{% endif %}</td>
{% endfor %}</tr>
{% endfor %}</tbody></table></div></figure>
"""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>{{ css | safe }}</style>
</head>
<body>
<main>
<header><h1>{{ title }}</h1><p class="subtitle">{{ subtitle }}</p></header>
{% for part in lead %}{{ part }}
{% endfor %}
{% if sections | length > 2 %}
<nav aria-label="Contents">{% for section in sections %}
<a href="#s{{ loop.index }}">{{ section.title }}</a>
{% endfor %}</nav>
{% endif %}
{% for section in sections %}
<section id="s{{ loop.index }}"><h2>{{ section.title }}</h2>
{% for part in section.body %}{{ part }}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""

CSS = """
:root {
  --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --paper: #ffffff;
  --card: #f6f8fa; --good: #0b6e4f; --bad: #a8330a; --open: #6b5a00;
  --link: #0072b2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ec; --soft: #9aa4ae; --line: #3a424a; --paper: #14181c;
    --card: #1c2228; --good: #5fd3a6; --bad: #ff9a70; --open: #e3c94f;
    --link: #6db9e8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
    "DejaVu Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 {
  font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line);
}
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .6rem 0; max-width: 46rem; }
.subtitle, .soft, figcaption { color: var(--soft); }
.subtitle { margin-top: 0; }
.soft, figcaption { font-size: .875rem; }
.lead { font-size: 1.05rem; }
nav {
  display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1.25rem 0;
  padding: .6rem 0; border: solid var(--line); border-width: 1px 0;
  font-size: .875rem;
}
nav a { color: var(--link); text-decoration: none; }
nav a:hover { text-decoration: underline; }
.notice {
  border-left: 3px solid var(--open); background: var(--card);
  padding: .6rem 1rem; margin: 1rem 0; font-size: .9rem;
}
.notice ul { margin: .3rem 0 0; padding-left: 1.2rem; }
figure { margin: 1rem 0 1.75rem; }
.scroll { overflow-x: auto; margin-top: .4rem; }
table {
  border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums;
}
th, td {
  text-align: right; padding: .3rem .7rem; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap;
}
th {
  font-weight: 600; border-bottom-color: var(--soft); white-space: normal;
  vertical-align: bottom;
}
th.t, td.t { text-align: left; white-space: normal; }
.grouped th.t, .grouped td.t { white-space: nowrap; }
.grouped td.t + td.t { white-space: normal; min-width: 9rem; }
td.t:first-child { min-width: 4.5rem; }
.grouped td .ci { display: block; }
td b { font-weight: 500; }
th:first-child, td:first-child { padding-left: 0; }
tr.group:not(:first-child) td { border-top: 1px solid var(--soft); }
.ci { color: var(--soft); font-size: .92em; }
.gallery > div {
  display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
}
.gallery img {
  width: 100%; max-width: 560px; height: auto; display: block;
  background: #fff; border-radius: 4px;
}
figcaption { max-width: 46rem; }
.gallery figcaption { margin-top: .5rem; }
.claims { display: grid; gap: .75rem; }
.claim {
  border: 1px solid var(--line); border-left: 4px solid var(--open);
  border-radius: 4px; padding: .7rem 1rem; background: var(--card);
}
.claim.reproduced { border-left-color: var(--good); }
.claim.not-reproduced { border-left-color: var(--bad); }
.claim.not-measured { border-left-color: var(--line); }
.claim header {
  display: flex; gap: .25rem 1rem; justify-content: space-between;
  flex-wrap: wrap; align-items: baseline;
}
.claim header p { margin: 0; font-weight: 600; flex: 1 1 20rem; }
.verdict { font-weight: 700; white-space: nowrap; color: var(--open); }
.reproduced .verdict { color: var(--good); }
.not-reproduced .verdict { color: var(--bad); }
.not-measured .verdict { color: var(--soft); }
.claim .columns {
  display: grid; gap: .25rem 1.5rem; margin-top: .4rem;
  grid-template-columns: minmax(0, 15rem) minmax(0, 1fr);
}
.claim dl { margin: 0; font-size: .9rem; }
.claim dt { color: var(--soft); font-size: .8rem; }
.claim dd { margin: 0; font-variant-numeric: tabular-nums; }
.claim .rule, .claim .note { font-size: .85rem; margin: .4rem 0 0; }
.claim .rule { color: var(--soft); }
.sample {
  display: grid; grid-template-columns: 170px minmax(0, 1fr);
  gap: .5rem 1.25rem; margin: 1.25rem 0; padding-top: 1.25rem;
  border-top: 1px solid var(--line);
}
.sample > img {
  width: 170px; height: auto; background: #fff; border-radius: 4px;
  image-rendering: auto;
}
.completions {
  display: grid; gap: .5rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 290px), 1fr));
}
.who { font-size: .85rem; color: var(--soft); margin: 0; }
.tokens {
  font: .875rem/1.75 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas,
    monospace;
  overflow-wrap: anywhere; white-space: pre-wrap;
}
.tokens span, .legend span { border-radius: 2px; }
.tokens span, .legend span, .claim {
  -webkit-print-color-adjust: exact; print-color-adjust: exact;
}
.legend span { padding: .1rem .5rem; margin-left: .25rem; }
.right { color: var(--good); } .wrong { color: var(--bad); }
@media (max-width: 620px) {
  body { font-size: 15px; }
  .claim .columns, .sample { grid-template-columns: minmax(0, 1fr); }
  th, td { padding: .3rem .5rem; }
  table:not(.grouped) td { white-space: normal; }
  td .ci { display: block; white-space: nowrap; }
}
@media print {
  :root {
    --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --card: #fff;
    --good: #0b6e4f; --bad: #a8330a; --open: #6b5a00;
  }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .claim, .sample, .gallery img, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .gallery > div { grid-template-columns: 1fr 1fr; }
}
"""
