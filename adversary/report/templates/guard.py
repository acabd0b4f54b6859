"""The page of a hospital's guard."""

GUARD_PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy(script) }}">
<title>Leakage guard</title>
<style>{% include "style" %}</style>
</head>
<body>
<header><div>
<h1>What left this hospital</h1>
<p>{{ rows | length }} updates: {{ rows | length - held - blurred }} sent as they were, {{ blurred }} blurred, {{ held }} withheld</p>
</div></header>
<main>
<p>Before an update leaves, an attack by an honest-but-curious server is run on it here, where the X-rays are, and its result compared with them. Limits: {% for name, limit in limits.items() %}{{ name | replace("_", " ") }} {{ limit }}{{ ", " if not loop.last }}{% endfor %}. An update below them is not shown to be safe: a stronger attack may get more.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table: updates"><table>
<thead><tr><th scope="col">Round</th><th scope="col" class="n">X-rays</th><th scope="col">Decision</th><th scope="col" class="n">PSNR, dB</th><th scope="col" class="n">beside others</th><th scope="col" class="n">Expected, dB</th><th scope="col" class="n">RDLV</th><th scope="col" class="n">Named</th><th scope="col" class="n">Noise</th><th scope="col" class="n">PSNR after</th><th scope="col" class="n">Named after</th><th scope="col" class="n">Seconds</th><th scope="col">Why</th></tr></thead>
<tbody>{% for row in rows | reverse %}<tr><th scope="row">{{ row.round }}</th><td class="n">{{ row.images if row.images is not none else "–" }}</td><td>{{ row.decision }}</td><td class="n">{{ row.psnr | figure(1) }}</td><td class="n">{{ row.null_psnr | figure(1) }}</td><td class="n">{{ row.expected_psnr | figure(1) }}</td><td class="n">{{ row.rdlv | figure }}</td><td class="n">{{ row.named | percent }}</td><td class="n">{{ row.noise | figure }}</td><td class="n">{{ row.psnr_after | figure(1) }}</td><td class="n">{{ row.named_after | percent }}</td><td class="n">{{ row.seconds | figure(1) }}</td><td>{{ row.reason }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="small">PSNR is that of the reconstruction nearest to its X-ray; <em>beside others</em> is the same picture beside X-rays that had no part in the update. RDLV 0 is what the mean X-ray shows. Named is the share of the X-rays trained on that identification tells from those that were not, while at most one in twenty of all named is wrong.</p>
<footer>This page holds no picture of a patient and no name of a file. It loads nothing from a network, and nothing of it goes to the server.</footer>
</main>
</body>
</html>
"""
