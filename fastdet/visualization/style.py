"""The report's style sheet and its one script."""

_LIGHT_LINES = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#b91c1c", "#64748b")
_DARK_LINES = ("#60a5fa", "#fbbf24", "#34d399", "#f472b6", "#a78bfa", "#22d3ee", "#f87171", "#94a3b8")

_RULES = """
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#667085;--rule:#e4e7ec;--grid:#eceff3;
--accent:#2563eb;--good:#067647;--bad:#b42318;%LIGHT%}
@media(prefers-color-scheme:dark){:root{--back:#0f1319;--card:#171c24;--ink:#e6e9ef;--soft:#98a2b3;--rule:#2a313c;
--grid:#232a34;--accent:#60a5fa;--good:#47cd89;--bad:#f97066;%DARK%}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:26px;line-height:1.25;margin:0 0 2px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:38px 0 12px;letter-spacing:-.005em}
h3{font-size:14px;margin:0 0 8px;font-weight:600}
p.note,.sub{color:var(--soft);margin:0 0 12px}
p.note{font-size:13.5px;max-width:120ch}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(136px,1fr));gap:12px;margin-top:12px}
.card,.panel,details{background:var(--card);border:1px solid var(--rule);border-radius:10px}
.card{padding:12px 14px}
.card b{display:block;font-size:25px;font-weight:650;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.card span{color:var(--soft);font-size:13px;overflow-wrap:anywhere}
.card em{font-style:normal;font-size:13px;font-variant-numeric:tabular-nums}
.card.main{border-color:var(--accent);box-shadow:inset 0 0 0 1px var(--accent)}
.up{color:var(--good)}.down{color:var(--bad)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,370px),1fr));gap:14px}
.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr))}
.panel{padding:14px 16px 12px;min-width:0}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:12px}svg.heat text{font-size:inherit}
svg .name{fill:var(--ink)}svg.chart .name{font-size:12.5px}
.small svg text{font-size:17px}.small svg .name{display:none}.small .legend{display:none}
path{fill:none}svg .rule{stroke:var(--grid)}svg .axis,svg .tick{stroke:var(--soft);stroke-opacity:.6}
.line path{stroke-width:1.6;stroke-linejoin:round}.line.main path{stroke-width:2.6}
.marker path{stroke:var(--soft);stroke-dasharray:3 3}
.marker circle{fill:var(--card);stroke:var(--ink);stroke-width:2}.marker text{fill:var(--ink);font-weight:600}
%COLORS%
.legend{display:flex;flex-wrap:wrap;gap:3px 14px;margin-top:6px;font-size:12.5px;color:var(--soft)}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.heat{margin:0 auto}.heat .hit rect{fill:var(--line-2)}.heat .miss rect{fill:var(--line-6)}
.heat .frame{fill:none;stroke:var(--rule)}.heat text.strong{fill:var(--card)}.heat text.weak{fill:var(--ink)}
.scroll{overflow:auto;max-height:640px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{position:sticky;top:0;background:var(--card);color:var(--soft);font-weight:600;font-size:13px}
th[data-sort]{cursor:pointer}th[data-sort]:hover{color:var(--ink)}
tbody tr:hover{background:color-mix(in srgb,var(--accent) 7%,transparent)}
td.bar{background:linear-gradient(to right,color-mix(in srgb,var(--accent) 17%,transparent) var(--part),
transparent var(--part))}
details{padding:10px 16px;margin-top:12px}summary{cursor:pointer;font-weight:600}
details table{margin-top:8px}details td{text-align:left;white-space:pre-wrap;overflow-wrap:anywhere}
details td:first-child{color:var(--soft);width:1%;white-space:nowrap;overflow-wrap:normal}details .grid{margin-top:10px}
pre{overflow:auto;max-height:520px;margin:10px 0 4px;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.wall{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,370px),1fr));gap:14px;margin-bottom:22px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;
overflow:hidden}
figure img,.missing{display:block;width:100%;height:auto;aspect-ratio:4/3;object-fit:contain;background:var(--grid)}
figcaption{padding:8px 12px 10px;font-size:13px;color:var(--soft)}figcaption b{color:var(--ink);font-weight:600}
figcaption b,figcaption span{overflow-wrap:anywhere}
.missing{padding:40px 12px;text-align:center;color:var(--soft)}
.key i{display:inline-block;width:12px;height:12px;border:2px solid;border-radius:2px;margin:0 5px 0 12px;
vertical-align:-1px}.key i:first-child{margin-left:0}
.key .truth{border-color:#28be46}.key .detected{border-color:#eb3c3c}
@media print{.scroll{max-height:none}}
"""


def _variables(colors: tuple[str, ...]) -> str:
    return "".join(f"--line-{number}:{color};" for number, color in enumerate(colors))


def _line_rules() -> str:
    """The colour of line number n: class cn on a chart's group and on a legend's swatch."""
    return "".join(
        f".c{n} path{{stroke:var(--line-{n})}}"
        f".c{n} circle{{fill:var(--line-{n})}}"
        f"i.c{n}{{background:var(--line-{n})}}\n"
        for n in range(len(_LIGHT_LINES))
    )


STYLE = (
    _RULES.replace("%LIGHT%", _variables(_LIGHT_LINES))
    .replace("%DARK%", _variables(_DARK_LINES))
    .replace("%COLORS%", _line_rules())
)

# Sorting a table by a click on its head; the page is complete without it.
SCRIPT = """
document.querySelectorAll('th[data-sort]').forEach(function(head){head.onclick=function(){
var table=head.closest('table'),body=table.tBodies[0],at=head.cellIndex,down=head.dataset.sort!=='down';
table.querySelectorAll('th[data-sort]').forEach(function(h){h.dataset.sort=''});head.dataset.sort=down?'down':'up';
function key(row){var v=row.cells[at].dataset.v;return v===undefined?row.cells[at].textContent:parseFloat(v)}
Array.from(body.rows).sort(function(a,b){var x=key(a),y=key(b),s=x<y?-1:x>y?1:0;
if(x!==x)return 1;if(y!==y)return -1;return down&&typeof x==='number'?-s:down?s:typeof x==='number'?s:-s})
.forEach(function(row){body.appendChild(row)})}});
"""
