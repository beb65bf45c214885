package webapi

import "net/http"

func ping(r *Request) error {
	r.set("Connection", "close")
	r.set("Content-Length", "0")
	r.WriteHead(http.StatusOK)
	return nil
}

func docs(r *Request) error {
	r.set("Location", r.s.cfg.DocsURL)
	r.Empty(http.StatusFound)
	return nil
}

// crossDomainPolicy lets Flash players read everything, as the original's does.
const crossDomainPolicy = `<?xml version="1.0"?>
<!DOCTYPE cross-domain-policy SYSTEM "http://www.adobe.com/xml/dtds/cross-domain-policy.dtd">
<cross-domain-policy>
  <site-control permitted-cross-domain-policies="all"/>
  <allow-access-from domain="*"/>
  <allow-http-request-headers-from domain="*" headers="*"/>
</cross-domain-policy>
`

func crossDomain(r *Request) error {
	r.blob(http.StatusOK, "text/xml", []byte(crossDomainPolicy))
	return nil
}
