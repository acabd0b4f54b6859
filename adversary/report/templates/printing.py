"""How pages are printed: a notice and a number on every sheet, heads repeated, nothing stranded."""

STYLE = r"""
.sign, .on-paper { display: none; }
@page { size: A4; margin: 17mm 13mm 15mm; @top-left { content: "{{ notice | css }}"; font: 8pt sans-serif; color: #7c1210; } @bottom-left { content: "{{ about.title | css }}"; font: 8pt sans-serif; color: #4a5563; } @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #4a5563; } }
@page wide { size: A4 landscape; }
@media print {
  html { font-size: 8.6pt; } body { font-size: 8.6pt; line-height: 1.36; }
  nav, .filters, .screen-only, .skip, .notice, script { display: none !important; }
  main, header > div { max-width: none; padding: 0; }
  header { background: #fff; color: #000; padding: 0 0 .4rem; } header p, header a { color: #333; } h1 { font-size: 15pt; }
  h2 { font-size: 12.5pt; margin: 1.1rem 0 .35rem; padding-top: .4rem; } h3 { font-size: 10pt; margin: .6rem 0 .2rem; }
  h2 + p { break-inside: avoid; } h2, h3, h4, h2 + p, figcaption, dt, caption { break-after: avoid; } h2 + p, h3 + p { break-before: avoid; }
  p, li, dd { orphans: 2; widows: 2; } p { margin: .35rem 0; }
  .grid, .numbers > div, figure, tr, li, .answers > div, .note, .copy { break-inside: avoid; }
  thead { display: table-header-group; } .scroll { overflow: visible; }
  a { color: inherit; text-decoration: none; }
  table { font-size: 7.6pt; } th, td { padding: .1rem .4rem; } .dense { font-size: 6.6pt; } .dense th, .dense td { padding: .1rem .22rem; }
  .verdict { margin: .4rem 0; padding: .6rem .8rem; } .first { grid-template-columns: 1fr 8cm; } .verdict p, .answers { font-size: 1.1rem; } .verdict h3, .answers h3 { font-size: 1.15rem; } .verdict .headline { font-size: 1.7rem; }
  .verdict, .badge, .thumb img, .heat td, .note, thead th { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .answers { grid-template-columns: 1fr 1fr 1fr; gap: .6rem; }
  .sign { display: table; width: 100%; margin-top: .8rem; break-after: page; } .sign + section h2 { border-top: 0; } .sign td { width: 26%; height: 1.1cm; border-bottom: 1px solid #000; }
  .numbers { grid-template-columns: repeat(auto-fit, minmax(3.4cm, 1fr)); gap: .4rem; } .numbers > div { padding: .4rem .6rem; } .numbers .big { font-size: 14pt; }
  .charts { grid-template-columns: 1fr 1fr 1fr; gap: .5rem; }
  .grids { grid-template-columns: repeat(5, 1fr); gap: .4rem; } .grid { padding: .4rem; } .grid .row { grid-template-columns: repeat(auto-fit, minmax(1cm, 1fr)); gap: .2rem; margin-top: .2rem; } .grid .thumb { font-size: 5.5pt; } .grid .small { font-size: 6pt; margin: .1rem 0 0; line-height: 1.2; } .grid figcaption { font-size: 7pt; margin: 0; } .grid .badge { font-size: 6.5pt; }
  .on-paper { display: block; } dl.words { columns: 3; column-gap: 1rem; font-size: 7.2pt; line-height: 1.25; } #method { font-size: 8pt; line-height: 1.25; } dl.words dt { margin-top: .25rem; } dl.words dd { break-before: avoid; }
  #figures tbody tr:nth-child(n + 13), .grids .grid:nth-child(n + 16) { display: none; }
  footer { display: none; }
}
"""
