"""OHIF, the viewer of the browser, beside an archive that speaks DICOMweb: both on one address of this machine.

OHIF is npm's @ohif/app; MEDSEG_OHIF names its folder dist (``.ci/run`` fetches it).
"""

import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ARCHIVE = "/dicom-web"
SETTINGS = """window.config = {
  routerBasename: null, extensions: [], modes: [], showStudyList: true, maxNumberOfWebWorkers: 1,
  disableConfirmationPrompts: true, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  investigationalUseDialog: {option: 'never'}, defaultDataSourceName: 'archive',
  dataSources: [{namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'archive',
    configuration: {friendlyName: 'archive', name: 'archive', qidoRoot: location.origin + '/dicom-web',
      wadoRoot: location.origin + '/dicom-web', wadoUriRoot: location.origin + '/dicom-web',
      qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      bulkDataURI: {enabled: true, relativeResolution: 'studies'}, omitQuotationForMultipartRequest: true}}]};
"""


def ohif_folder() -> Path:
    """Returns OHIF's files; skips the test where there are none."""
    folder = Path(os.environ.get("MEDSEG_OHIF", ""))
    if not (folder / "app-config.js").is_file():
        pytest.skip("no OHIF here: 'npm pack @ohif/app', and MEDSEG_OHIF names its folder dist")
    return folder


@contextmanager
def served_ohif(folder: Path, archive: str) -> Iterator[str]:
    """Serves OHIF's files and, at /dicom-web, an archive: a browser asks one address only.

    Args:
        folder: OHIF's files.
        archive: Address of the archive's DICOMweb.
    """

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_GET(self) -> None:
            if self.path.startswith(ARCHIVE):
                self.pass_on()
            elif self.path.startswith("/app-config.js"):
                self.answer(200, "text/javascript", SETTINGS.encode())
            else:
                is_file = (folder / self.path.split("?")[0].lstrip("/")).is_file()
                self.path = self.path if is_file else "/index.html"
                super().do_GET()

        def pass_on(self) -> None:
            # By Host the archive makes the addresses of its answers, such as that of a PDF.
            kept = {name: value for name, value in self.headers.items() if name.lower() in ("accept", "host")}
            asked = urllib.request.Request(archive + self.path.removeprefix(ARCHIVE), headers=kept)
            try:
                with urllib.request.urlopen(asked, timeout=120) as found:
                    self.answer(found.status, found.headers["Content-Type"], found.read())
            except urllib.error.HTTPError as error:
                self.answer(error.code, "text/plain", b"")

        def answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def wait_until(condition: Any, seconds: float = 240) -> Any:
    """Returns what a function gives as soon as that is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except Exception:  # the page is not that far
            found = None
        if found:
            return found
        assert time.monotonic() < end, "the viewer did not come so far"
        time.sleep(0.5)
