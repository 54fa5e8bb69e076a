"""A page of made-up numbers that look like those of a network for CLEVR, and a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from featurewise.explorer.document import packed
from featurewise.explorer.schema import (
    Arithmetic,
    AxesStatistics,
    CategoryLabel,
    Content,
    Count,
    Curve,
    Effect,
    Grid,
    History,
    Interpolation,
    Model,
    NumberLabel,
    Outputs,
    PackedArray,
    PageBundle,
    PageData,
    Parameter,
    ParameterStatistics,
    Projection,
    Purity,
    Separation,
    SiteValues,
    TextLabel,
    Thumbnails,
)

PAGE = Path(__file__).parents[3] / "src/featurewise/explorer"

KINDS = {
    "exist": "Is there a {size} {color} {shape} {side} the {material} object?",
    "count": "How many {color} {shape}s are {side} the {size} {material} object?",
    "query color": "What color is the {size} {material} {shape} {side} the sphere?",
    "query shape": "What shape is the {size} {color} object {side} the cube?",
    "query material": "What material is the {color} {shape} {side} the cylinder?",
    "query size": "How big is the {material} {shape} {side} the {color} object?",
    "equal color": "Is the {shape} {side} the {size} object of the same color as the cube?",
    "less than": "Are there fewer {color} objects than {material} {shape}s?",
}
WORDS = {
    "size": ["small", "large"],
    "color": ["red", "green", "blue", "yellow", "gray"],
    "shape": ["cube", "sphere", "cylinder"],
    "material": ["metal", "rubber"],
    "side": ["in front of", "behind", "left of", "right of"],
}
ANSWERS = ["yes", "no", "0", "1", "2", "red", "green", "blue", "cube", "sphere", "metal", "rubber"]


def data_url(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def scene(rng: np.random.Generator, size: int = 64) -> Image.Image:
    image = Image.new("RGB", (size * 3 // 2, size), (170, 170, 168))
    canvas = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 6)):
        x, y = rng.integers(8, size * 3 // 2 - 20), rng.integers(10, size - 20)
        color = tuple(int(each) for each in rng.integers(30, 220, 3))
        side = int(rng.integers(10, 18))
        shape = canvas.ellipse if rng.random() < 0.5 else canvas.rectangle
        shape((x, y, x + side, y + side), fill=color)
    return image.quantize(32)


class Arrays:
    """Arrays by name, packed as the page reads them."""

    def __init__(self) -> None:
        self.packed: dict[str, PackedArray] = {}

    def add(self, name: str, values: np.ndarray) -> str:
        self.packed[name] = packed(torch.from_numpy(np.asarray(values, dtype="<f4")))
        return name


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def make_bundle(
    conditions: int = 256, features: int = 64, sites: int = 4, seed: int = 0, name: str = "FiLM"
) -> PageBundle:
    """Question types and words shift γ and β of some features, more in later sites."""
    rng = np.random.default_rng(seed)
    arrays = Arrays()
    kinds = list(KINDS)
    codes = rng.integers(0, len(kinds), conditions)
    filled = [
        {slot: str(rng.choice(words)) for slot, words in WORDS.items()} for _ in range(conditions)
    ]
    texts = [KINDS[kinds[code]].format(**words) for code, words in zip(codes, filled, strict=True)]
    front = np.array(["front" in text for text in texts], dtype=float)
    lengths = [float(len(text.split())) for text in texts]
    hidden = np.eye(len(kinds))[codes] @ rng.normal(size=(len(kinds), 6))
    hidden = np.concatenate([hidden, front[:, None], rng.normal(size=(conditions, 3))], axis=1)
    values, statistics, histories = [], [], []
    steps = [0, 500, 1000, 2000, 4000, 8000]
    for index in range(sites):
        site = f"block {index + 1}"
        strength = 0.1 + 0.08 * index
        parameters = []
        for parameter, origin, scale in (("gamma", 1.0, 1.0), ("beta", 0.0, 0.7)):
            center = origin + rng.normal(0, 0.55 * scale, features)
            weight = rng.normal(size=(hidden.shape[1], features)) * rng.gamma(1, 0.6, features)
            table = center + strength * scale * hidden @ weight
            table += rng.normal(0, 0.05, table.shape)
            array = arrays.add(f"sites/{index}/{parameter}", table)
            parameters.append(Parameter(name=parameter, origin=origin, array=array))
            statistics.append(
                ParameterStatistics(
                    site=site,
                    parameter=parameter,
                    explained=float(table.mean(0).var() / table.var()),
                    negative=float((table < 0).mean()),
                    minimum=float(table.min()),
                    maximum=float(table.max()),
                )
            )
            levels = [0.05, 0.25, 0.5, 0.75, 0.95]
            final = np.quantile(table, levels)
            growth = 1 - np.exp(-np.array(steps) / 1500)[:, None]
            area = arrays.add(f"histories/{index}/{parameter}", origin + growth * (final - origin))
            histories.append(
                History(site=site, parameter=parameter, steps=steps, levels=levels, array=area)
            )
        effects = [
            Effect(
                name=f"accuracy lost with {symbol} at its mean",
                unit="points",
                definition=f"Accuracy lost where {symbol} of this feature is set to its mean.",
                array=arrays.add(f"sites/{index}/effect/{symbol}", rng.gamma(0.7, 0.8, features)),
            )
            for symbol in ("γ", "β")
        ]
        values.append(
            SiteValues(
                name=site,
                operation="Affine",
                features=Count(shown=features, total=2 * features),
                numbers=list(range(0, 2 * features, 2)),
                parameters=parameters,
                effects=effects,
            )
        )
    unit = hidden[:, :2] + 0.3 * rng.normal(size=(conditions, 2))
    purity = [Purity(label="question type", neighbours=10, share=0.81, random=0.13)]
    projections = [
        Projection(
            name="t-SNE",
            of="all sites",
            settings="perplexity 30, 1000 iterations",
            seed=seed,
            explained=[],
            array=arrays.add("projections/0", 12 * unit),
            purity=purity,
        ),
        Projection(
            name="PCA",
            of="block 4",
            settings="centered",
            seed=None,
            explained=[0.412, 0.187],
            array=arrays.add("projections/1", hidden[:, 2:4]),
            purity=purity,
        ),
    ]

    def outputs(key: str, logits: np.ndarray) -> Outputs:
        array = arrays.add(key, softmax(logits))
        return Outputs(names=ANSWERS, unit="probability", array=array)

    interpolations = []
    weights = np.linspace(0, 1, 21)
    for index in range(3):
        start, end, middle = (int(each) for each in rng.choice(conditions, 3, replace=False))
        ends = rng.normal(0, 3, (2, len(ANSWERS)))
        logits = (1 - weights)[:, None] * ends[0] + weights[:, None] * ends[1]
        nearest = [start] * 8 + [middle] * 4 + [end] * 9
        interpolations.append(
            Interpolation(
                start=start,
                end=end,
                weights=[round(float(each), 3) for each in weights],
                nearest=nearest,
                outputs=outputs(f"interpolations/{index}", logits),
                images=[data_url(scene(rng, 48)) for _ in weights] if index == 2 else [],
            )
        )
    arithmetic = []
    for index in range(3):
        a, b, c, *nearest = (int(each) for each in rng.choice(conditions, 8, replace=False))
        arithmetic.append(
            Arithmetic(
                a=a,
                b=b,
                c=c,
                expected=texts[nearest[0]] if index else "",
                nearest=nearest,
                distances=[0.31, 0.44, 0.52, 0.58, 0.61],
                outputs=outputs(f"arithmetic/{index}", rng.normal(0, 2, (1, len(ANSWERS)))),
            )
        )
    columns, rows = [-1.0, 0.0, 1.0, 2.0, 3.0], [-2.0, -1.0, 0.0, 1.0, 2.0]
    logits = np.add.outer(np.array(rows), np.array(columns)).reshape(-1, 1) * rng.normal(
        0, 1, len(ANSWERS)
    )
    grid = Grid(
        site="block 2",
        feature=26,
        condition=3,
        across="gamma",
        up="beta",
        columns=columns,
        rows=rows,
        outputs=outputs("grids/0", logits),
    )
    images = replace(
        grid, feature=40, outputs=None, images=[data_url(scene(rng, 48)) for _ in range(25)]
    )
    training = list(range(0, 8001, 400))
    progress = 1 - np.exp(-np.array(training) / 1800)
    curves = [
        Curve(name=name, unit=unit, steps=training, values=[float(each) for each in line])
        for name, unit, line in (
            ("training loss", "nats", 2.3 * (1 - progress) + 0.12),
            ("validation loss", "nats", 2.2 * (1 - progress) + 0.2),
            ("validation accuracy", "%", 40 + 57 * progress),
        )
    ]
    separations = [
        Separation(
            label="question",
            level="front",
            other="behind",
            site="block 1",
            feature=26,
            parameter="gamma",
            auc=0.97,
            probability=0.0004,
            corrected=0.03,
            conditions=[60, 58],
        ),
        *(
            Separation(
                label="question type",
                level=kind,
                other="" if index % 2 else "count",
                site=f"block {1 + index % sites}",
                feature=10 + 4 * index,
                parameter="beta" if index % 3 == 0 else "gamma",
                auc=0.99 - 0.02 * index,
                probability=0.002,
                corrected=0.016,
                conditions=[int((codes == kinds.index(kind)).sum()), 200],
            )
            for index, kind in enumerate(kinds)
            if kind != "count"
        ),
    ]
    content = Content(
        title=f"{name} on questions about images",
        model=Model(
            name=name, digest=hashlib.sha256(name.encode()).hexdigest()[:16], version="0.1.0"
        ),
        data="Questions of the validation split about rendered scenes.",
        seed=seed,
        conditions=Count(shown=conditions, total=max(conditions, 15_000)),
        labels=[
            CategoryLabel(name="question type", levels=kinds, codes=codes.tolist()),
            NumberLabel(name="words", values=lengths),
            TextLabel(name="question", texts=texts),
        ],
        thumbnails=Thumbnails(
            name="the image of the question",
            images=[data_url(scene(rng)) for _ in range(12)],
            alts=[f"scene {index}: objects on a gray floor" for index in range(12)],
            codes=[int(each) for each in rng.integers(0, 12, conditions)],
        ),
        sites=values,
        projections=projections,
        interpolations=interpolations,
        arithmetic=arithmetic,
        grids=[grid, images],
        curves=curves,
        histories=histories,
        parameters=statistics,
        axes=[AxesStatistics(site=site.name, quarters=[0.22, 0.19, 0.28, 0.31]) for site in values],
        separations=separations,
    )
    return PageBundle(content=content, arrays=arrays.packed)


def assemble(data: PageData | dict) -> str:
    """The one file: what the library does with the built page."""
    static = PAGE / "static"
    record = data if isinstance(data, dict) else asdict(data)
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    style, script = ((static / name).read_text("utf-8") for name in ("page.css", "page.js"))

    def hash_of(content: str) -> str:
        digest = hashlib.sha256(content.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    server = record["server"] or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {hash_of(style)}; "
        f"script-src {hash_of(script)}; connect-src {server}"
    )
    filled = {
        "CSP": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "TITLE": html.escape(record["bundles"][0]["content"]["title"]),
        "STYLE": style,
        "DATA": text,
        "SCRIPT": script,
    }
    page = (static / "page.html").read_text("utf-8")
    return re.sub(r"<!--([A-Z]+)-->", lambda found: filled[found[1]], page)


@pytest.fixture(scope="session")
def make():
    """The functions that make data and files."""
    return SimpleNamespace(bundle=make_bundle, assemble=assemble, arrays=Arrays)


@pytest.fixture(scope="session")
def sample() -> PageBundle:
    return make_bundle()


@pytest.fixture(scope="session")
def small() -> PageBundle:
    """As `sample`, with fewer elements on the page: slow checks look at each."""
    return make_bundle(conditions=48, features=16, sites=2)


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory, sample) -> Path:
    path = tmp_path_factory.mktemp("page") / "sample.html"
    path.write_text(assemble(PageData(bundles=[sample])), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    """Closed with its module: its event loop runs in this thread, where tests run others."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


PIXELS = """() => { const c = document.querySelector('#plot canvas');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let h = 0; for (const v of d) h = (Math.imul(h, 31) + v) | 0; return [c.width, c.height, h]; }"""


class Visit:
    """A tab that notes what a page must not do: errors, messages, requests."""

    def __init__(self, page, path: Path | str) -> None:
        self.page = page
        self.address = path if isinstance(path, str) else path.as_uri()
        self.faults: list[str] = []
        page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._request)

    def _request(self, request) -> None:
        if not request.url.startswith(("data:", "blob:", self.address)):
            self.faults.append(f"request: {request.url[:80]}")

    def open(self, address: str) -> None:
        """Opens an address, and waits for the figures."""
        self.page.goto(address)
        self.page.wait_for_selector("main > *")

    def go(self, **state: object) -> Visit:
        """Opens the page in a state, as by a permalink."""
        self.page.goto("about:blank")
        self.open(f"{self.address}#{urlencode(state)}")
        return self

    @property
    def state(self) -> dict[str, str]:
        return dict(parse_qsl(self.page.url.partition("#")[2]))

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def brush(self, *corners: tuple[float, float]) -> None:
        """A drag through positions in shares of the plot's width and height."""
        plot = self.page.locator("#plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        for index, (x, y) in enumerate(corners):
            self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if index == 0:
                self.page.mouse.down()
        self.page.mouse.up()

    def pixels(self) -> list[int]:
        """Size of the plot's canvas and a digest of its pixels."""
        return self.page.evaluate(PIXELS)

    def save(self, selector: str) -> tuple[str, bytes]:
        """Name and content of the file that a button saves."""
        with self.page.expect_download() as started:
            self.page.click(selector)
        return started.value.suggested_filename, Path(started.value.path()).read_bytes()


@pytest.fixture
def visit(browser, sample_file):
    """A function that opens a tab; at the end there must have been no fault in any."""
    visits = []

    def opened(path: Path | str = sample_file, **options: object) -> Visit:
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        visits.append(Visit(browser.new_page(**options), path))
        return visits[-1]

    yield opened
    faults = [fault for each in visits for fault in each.faults]
    for each in visits:
        each.page.close()
    assert not faults


@pytest.fixture
def write(tmp_path):
    """A function that writes the file of some networks."""

    def written(*bundles: PageBundle) -> Path:
        path = tmp_path / "page.html"
        path.write_text(assemble(PageData(bundles=list(bundles))), encoding="utf-8")
        return path

    return written


class FakeServer:
    """Serves the page of some networks, and answers with what it was sent."""

    def __init__(self, *bundles: PageBundle) -> None:
        self.requests: list[dict] = []
        self.problem: tuple[int, str] | None = None
        self.delay: Callable[[dict], float] = lambda _: 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.give(200, fake.page, "text/html; charset=utf-8")

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = json.loads(self.rfile.read(length))
                fake.requests.append(body)
                time.sleep(fake.delay(body))
                if fake.problem:
                    status, message = fake.problem
                    self.give(status, json.dumps({"error": message}).encode())
                else:
                    self.give(200, json.dumps(fake.reply(bundles[body["network"]], body)).encode())

            def give(self, status: int, content: bytes, kind: str = "application/json") -> None:
                try:
                    self.send_response(status)
                    self.send_header("content-type", kind)
                    self.send_header("content-length", str(len(content)))
                    if status == 503:
                        self.send_header("retry-after", "2")
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:
                    pass  # the page wants a newer answer

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.page = assemble(PageData(bundles=list(bundles), server=self.address)).encode()
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    @staticmethod
    def reply(bundle: PageBundle, body: dict) -> dict:
        """The name of the first answer repeats the request."""
        sent = [body["text"] or ""]
        sent += [f"{each['weight']:g}*{each['condition']}" for each in body["terms"]]
        sent += [f"{each['parameter']}={each['value']:g}" for each in body["edits"]]
        names = [" ".join(each for each in sent if each), *ANSWERS]
        values = {
            site.name: {each.name: [each.origin + 0.25] * site.features.shown}
            | {other.name: [other.origin - 0.25] * site.features.shown}
            for site in bundle.content.sites
            for each, other in [(site.parameters[0], site.parameters[-1])]
        }
        return {
            "outputs": [
                {"name": name, "value": 0.6 * 0.4**rank} for rank, name in enumerate(names)
            ],
            "images": [],
            "nearest": [{"condition": 5 + each, "distance": 0.125 * each} for each in range(5)],
            "values": values,
        }


@pytest.fixture
def serve():
    """A function that starts a server of some networks; at the end it stops."""
    started = []

    def serving(*bundles: PageBundle) -> FakeServer:
        started.append(FakeServer(*bundles))
        return started[-1]

    yield serving
    for each in started:
        each.close()
