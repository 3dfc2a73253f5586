// Package browser tests the pages in a real browser: the report's file, the
// dashboard, and how an operator's certificate gets from a controller into a
// browser, in Debian's chromium without a window, driven by chromedp. It is a
// module of its own so that what drives a browser is not among what the
// programs are built of.
//
// Without a browser (chromium, and libnss3-tools for certificates) the tests are
// skipped, or fail where TFOFLEET_REQUIRE_KERNEL
// is 1. TFOFLEET_SCREENSHOTS names a directory for pictures of what they saw.
package browser
