"""Small real files of foreign formats, made on the spot: PDF, `.eln`, mailboxes, chat exports."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

Reports = list[tuple[str, str]]


def pdf(pages: list[str], title: str = "", password: str | None = None) -> bytes:
    """A PDF with a line of text on each page."""
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for at, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * at} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    info = len(objects) + 1
    objects.append(f"<< /Title ({title}) /CreationDate (D:20210304102000Z) >>".encode())
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    out.write(
        b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, info, start)
    )
    if password is None:
        return out.getvalue()
    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(out.getvalue()))
    writer.encrypt(password, algorithm="RC4-128")
    locked = io.BytesIO()
    writer.write(locked)
    return locked.getvalue()


EXPERIMENT = {
    "@id": "./run-7/",
    "@type": "Dataset",
    "name": "Run 7",
    "author": {"@id": "#ann"},
    "dateCreated": "2021-03-04T10:20:00+01:00",
    "keywords": "catalysis, heat",
    "text": "<h1>Procedure</h1><p>Heat the <b>crucible</b>.</p><script>alert(1)</script>"
    "<table><tr><th>temperature</th><th>yield (%)</th></tr><tr><td>350</td><td>81</td></tr>"
    "<tr><td>300</td><td>40</td></tr></table>",
    "variableMeasured": [{"@id": "#p"}],
    "comment": [{"@id": "#c"}],
    "hasPart": [{"@id": "./run-7/notes.md"}, {"@id": "./run-7/gone.csv"}, {"@id": "https://elsewhere.example/x.csv"}],
}
GRAPH = [
    {"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": {"@id": "./"}},
    {"@id": "./", "@type": "Dataset", "hasPart": [{"@id": "./run-7/"}]},
    EXPERIMENT,
    {"@id": "./run-7/notes.md", "@type": "File", "name": "notes.md"},
    {"@id": "./run-7/gone.csv", "@type": "File", "name": "gone.csv"},
    {"@id": "https://elsewhere.example/x.csv", "@type": "File"},
    {"@id": "#ann", "@type": "Person", "givenName": "Ann", "familyName": "Lee"},
    {"@id": "#p", "@type": "PropertyValue", "name": "Pressure", "value": 3.5, "unitText": "bar"},
    {"@id": "#c", "@type": "Comment", "author": {"@id": "#ann"}, "text": "Leaks at the seal."},
]


def eln(path: Path, graph: list[object] | None = None, members: dict[str, bytes] | None = None) -> Path:
    """A `.eln` export with one experiment and one file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        crate = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": GRAPH if graph is None else graph}
        archive.writestr("export/ro-crate-metadata.json", json.dumps(crate))
        for name, data in (members or {"export/run-7/notes.md": b"# Notes\nThe rotor was cold."}).items():
            archive.writestr(name, data)
    return path


def mail(sender: str, subject: str, number: int, body: str, answers: int | None = None) -> str:
    """One message of a mailbox."""
    references = f"References: <m{answers}@lab>\nIn-Reply-To: <m{answers}@lab>\n" if answers is not None else ""
    return (
        f"From {sender} Thu Mar  4 10:{number:02}:00 2021\nFrom: {sender.title()} <{sender}@lab>\nSubject: {subject}\n"
        f"Message-ID: <m{number}@lab>\n{references}Date: Thu, 04 Mar 2021 10:{number:02}:00 +0000\n\n{body}\n\n"
    )


def chat(folder: Path) -> Path:
    """A Slack-style export: a thread over two days, a day without one, a file that is damaged."""
    channel = folder / "reactor"
    channel.mkdir(parents=True)
    (folder / "channels.json").write_text(json.dumps([{"id": "C1", "name": "reactor"}]))
    users = [{"id": "U1", "name": "ann", "profile": {"display_name": "Ann Lee"}}, {"id": "U2", "name": "bob"}]
    (folder / "users.json").write_text(json.dumps(users))

    def said(user: str, ts: float, text: str, **more: object) -> dict[str, object]:
        return {"type": "message", "user": user, "ts": f"{ts:.6f}", "text": text, **more}

    start = 1614852000.0  # 2021-03-04 10:00 UTC
    first = [
        said("U1", start, "Why does the seal leak? <@U2>", thread_ts=f"{start:.6f}", reply_count=1),
        said("U2", start + 60, "Lunch &amp; coffee at <https://lab.example|the bar>"),
        said("U2", start + 70, "joined", subtype="channel_join"),
    ]
    second = [said("U2", start + 86400, "&gt; Why does the seal leak?\nThe rotor was cold.", thread_ts=f"{start:.6f}")]
    (channel / "2021-03-04.json").write_text(json.dumps(first))
    (channel / "2021-03-05.json").write_text(json.dumps(second))
    (channel / "2021-03-06.json").write_text("[{")
    return folder
