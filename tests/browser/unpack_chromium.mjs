// Unpacks the Chromium of @sparticuz/chromium into TMPDIR, and prints where it is.
import chromium from "@sparticuz/chromium";

console.log(await chromium.executablePath());
