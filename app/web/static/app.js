// What pages do in the browser.
