"""What all pages look like."""

STYLE = r"""
:root { --ink: #1b2430; --soft: #4a5563; --line: #d9dee5; --panel: #f5f7fa; --link: #1f5a96; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main, header > div, nav > div { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
header { background: #14243a; color: #fff; padding: .7rem 0 .65rem; }
header p { margin: .2rem 0 0; color: #cfd9e6; font-size: .85rem; line-height: 1.4; }
h1 { font-size: 1.4rem; line-height: 1.2; margin: 0; }
.skip { position: absolute; left: -100vw; } .skip:focus { left: 1rem; top: .5rem; background: #fff; padding: .5rem 1rem; z-index: 1; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p, li, dt, dd, h1, figcaption, .verdict, output, .thumb { overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
a { color: var(--link); }
nav { border-bottom: 1px solid var(--line); background: var(--panel); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: .35rem 0; font-size: .85rem; }
.verdict { margin: .8rem 0; padding: .6rem 1.1rem .7rem; border-left: .4rem solid; background: var(--panel); }
.verdict .headline { font-size: 1.35rem; font-weight: 700; line-height: 1.25; margin: 0; }
.verdict h3, .answers h3 { font-size: .95rem; margin: .45rem 0 .1rem; } .verdict p { margin: 0; } .verdict p, .answers { font-size: .92rem; line-height: 1.42; }
.notice { margin: 0; padding: .2rem 1.25rem; background: #7c1210; color: #fff; text-align: center; font-size: .87rem; font-weight: 600; }
header a { color: #fff; }
.first { display: grid; grid-template-columns: minmax(0, 1fr) minmax(18rem, 25rem); gap: 1rem 1.5rem; align-items: start; } .first.alone { grid-template-columns: minmax(0, 1fr); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: .8rem; } .answers > div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem; }
.answers h3 { margin: 0 0 .2rem; } .answers p { margin: .2rem 0; } .answers ol { margin: .2rem 0; padding-left: 1.2rem; } .answers li { margin: .2rem 0; }
.term { color: inherit; text-decoration: underline dotted; text-underline-offset: .15em; }
.steps li { margin: .6rem 0; } code { font: .87em/1.4 ui-monospace, "Liberation Mono", monospace; background: var(--panel); padding: .1rem .3rem; overflow-wrap: anywhere; } .steps code { display: block; margin-top: .2rem; padding: .35rem .6rem; }
.copy { user-select: all; background: var(--panel); border: 1px solid var(--line); padding: .75rem 1rem; } .blank { color: var(--soft); font-style: italic; }
.ruler .row { display: grid; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); gap: .5rem; margin: .5rem 0; }
details > summary { cursor: pointer; font-weight: 600; margin: .75rem 0; }
.verdict.l5, .verdict.l4 { border-color: #a31621; } .verdict.l3 { border-color: #9a5b00; } .verdict.l2 { border-color: #8a7a52; border-left-style: double; } .verdict.l1 { border-color: #1d6b3c; } .verdict.l0 { border-color: #5c6670; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: 1rem; margin: 0; padding: 0; }
.numbers > div { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem; }
.numbers dt { color: var(--soft); font-weight: 600; }
.numbers dd { margin: 0; } .numbers .big { font-size: 2rem; font-weight: 650; line-height: 1.25; }
.note { background: #fff6e0; border: 1px solid #e2c26b; border-radius: .5rem; padding: .75rem 1rem; margin: 1rem 0; }
.badge { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-size: .85rem; font-weight: 600; line-height: 1.5; white-space: nowrap; }
.badge.l5 { background: #a31621; color: #fff; } .badge.l4 { background: #fbdcd5; color: #7c1210; }
.badge.l3 { background: #fdd9a8; color: #5f3800; } .badge.l2 { background: #ece7da repeating-linear-gradient(135deg, transparent 0 6px, #f8f5ec 6px 12px); color: #4a4028; } .badge.l1 { background: #d9efe0; color: #124c2a; } .badge.l0 { background: #e6e9ed; color: #39424d; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 3px solid var(--link); }
table { border-collapse: collapse; font-size: .92rem; margin: .5rem 0; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { white-space: nowrap; }
thead th { background: var(--panel); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.dense { font-size: .82rem; } .dense thead th { white-space: normal; vertical-align: bottom; } .dense th, .dense td { padding: .35rem .45rem; }
.pairs th { font-weight: 600; white-space: nowrap; } .pairs td, .wrap { overflow-wrap: anywhere; }
.heat td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; border: 1px solid #fff; }
.heat tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
.heat .l5 { background: #a31621; color: #fff; } .heat .l4 { background: #fbdcd5; color: #7c1210; }
.heat .l3 { background: #fdd9a8; color: #5f3800; } .heat .l2 { background: #ece7da repeating-linear-gradient(135deg, transparent 0 6px, #f8f5ec 6px 12px); color: #4a4028; } .heat .l1 { background: #d9efe0; color: #124c2a; } .heat .l0 { background: #e6e9ed; color: #39424d; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .4rem .6rem; padding: 0; margin: .5rem 0; }
.worst { display: flex; flex-wrap: wrap; gap: .4rem .6rem; margin: .8rem 0 .6rem; }
.worst figcaption { flex-basis: 100%; font-weight: 600; font-size: .92rem; line-height: 1.35; } .worst .thumb { flex: 1 1 5.5rem; max-width: 13rem; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; margin: .75rem 0; }
.filters[hidden], .filtered-out { display: none !important; }
.filters label { display: grid; grid-template-columns: minmax(0, 1fr); font-size: .87rem; font-weight: 600; max-width: 100%; }
.filters select, .filters button { font: inherit; font-weight: 400; padding: .25rem .5rem; max-width: 100%; color: var(--ink); background: #fff; border: 1px solid #6b7683; border-radius: .3rem; }
.filters :focus-visible, a:focus-visible { outline: 3px solid var(--link); outline-offset: 1px; }
.filters output { font-size: .87rem; flex-basis: 100%; }
.process img { height: 13rem; max-width: none; display: block; }
.on-phone { display: none; }
.source { white-space: nowrap; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } .charts figure { max-width: 36rem; } .charts figcaption { font-weight: 600; margin-bottom: .25rem; } .charts svg { width: 100%; height: auto; display: block; }
.grids { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; align-items: start; }
.grid { border: 1px solid var(--line); border-radius: .5rem; padding: .85rem; }
.grid figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem .5rem; margin-bottom: .5rem; }
.grid .row { display: grid; grid-template-columns: repeat(auto-fit, minmax(4rem, 1fr)); gap: .4rem; margin-top: .6rem; }
.thumb { font-size: .78rem; color: var(--soft); text-align: center; }
.thumb img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: .2rem; }
.thumb .none { display: grid; place-items: center; aspect-ratio: 1; background: var(--panel); border-radius: .2rem; }
.small { font-size: .87rem; color: var(--soft); margin: .35rem 0 0; overflow-wrap: anywhere; }
.bar { vertical-align: middle; width: 8rem; height: .7rem; margin: 0 .3rem; }
dl.words dt { font-weight: 600; margin-top: .6rem; } dl.words dd { margin: 0; }
footer { margin: 3rem 0 2rem; color: var(--soft); font-size: .87rem; }
@media (max-width: 40rem) { .verdict .headline { font-size: 1.2rem; } .first { grid-template-columns: minmax(0, 1fr); } .worst { margin-top: 0; } .badge { white-space: normal; } .stack thead { position: absolute; left: -100vw; } .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; } .on-phone { display: inline; } .stack .n { text-align: left; } .stack th, .stack td { display: block; border: 0; padding: .15rem 0; } }
"""
