package webapi

import (
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/manta"
)

// acceptable reports whether an Accept header takes a media type. A type that makes no sense counts as octet-stream; so does, for the most lenient answer,
// a range in the header that makes none.
func acceptable(accept, contentType string) bool {
	if accept == "" || accept == "*/*" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(mediaType, "/") {
		mediaType = manta.DefaultContentType
	}
	major, _, _ := strings.Cut(mediaType, "/")
	best, quality := 0, 0.0 // the most specific range decides
	for item := range strings.SplitSeq(accept, ",") {
		parts := strings.Split(item, ";")
		pattern := strings.ToLower(strings.TrimSpace(parts[0]))
		weight := 0
		switch pattern {
		case mediaType:
			weight = 3
		case major + "/*":
			weight = 2
		case "*/*", "*":
			weight = 1
		}
		if weight <= best {
			continue
		}
		best, quality = weight, 1
		for _, p := range parts[1:] {
			if name, value, _ := strings.Cut(strings.TrimSpace(p), "="); strings.EqualFold(name, "q") {
				if q, err := strconv.ParseFloat(value, 64); err == nil {
					quality = q
				}
			}
		}
	}
	return best > 0 && quality > 0
}

// fixContentType puts a media type in the place of what is none, such as "jpg".
func fixContentType(r *http.Request) {
	v := r.Header["Content-Type"]
	if len(v) == 0 || v[0] == "" || isMediaType(v[0]) {
		return
	}
	found := mediaTypes[strings.ToLower(strings.TrimPrefix(path.Ext("."+strings.TrimSpace(v[0])), "."))]
	if found == "" {
		found = manta.DefaultContentType
	}
	r.Header["Content-Type"] = []string{found}
}

// isMediaType reports whether s begins with type/subtype.
func isMediaType(s string) bool {
	major, rest, found := strings.Cut(s, "/")
	minor, _, _ := strings.Cut(rest, ";")
	return found && strings.TrimSpace(major) != "" && strings.TrimSpace(minor) != ""
}

// mediaTypes by extension. They are written down here because the host's own table would make the answer depend on the host.
var mediaTypes = map[string]string{
	"avi": "video/x-msvideo", "bin": manta.DefaultContentType, "bmp": "image/bmp", "bz2": "application/x-bzip2", "c": "text/x-c",
	"css": "text/css", "csv": "text/csv", "doc": "application/msword", "eot": "application/vnd.ms-fontobject", "flac": "audio/flac",
	"gif": "image/gif", "gz": "application/x-gzip", "htm": "text/html", "html": "text/html", "ico": "image/x-icon", "jar": "application/java-archive",
	"jpeg": "image/jpeg", "jpg": "image/jpeg", "js": "application/javascript", "json": "application/json", "log": "text/plain", "m4a": "audio/mp4",
	"md": "text/x-markdown", "mov": "video/quicktime", "mp3": "audio/mpeg", "mp4": "video/mp4", "mpeg": "video/mpeg", "mpg": "video/mpeg",
	"ogg": "audio/ogg", "otf": "font/opentype", "pdf": "application/pdf", "png": "image/png", "ps": "application/postscript",
	"rtf": "text/rtf", "sh": "application/x-sh", "svg": "image/svg+xml", "swf": "application/x-shockwave-flash", "tar": "application/x-tar",
	"tgz": "application/x-gzip", "tif": "image/tiff", "tiff": "image/tiff", "ttf": "application/x-font-ttf", "txt": "text/plain", "wav": "audio/x-wav",
	"weba": "audio/webm", "webm": "video/webm", "webp": "image/webp", "woff": "application/font-woff", "xls": "application/vnd.ms-excel",
	"xml": "application/xml", "yaml": "text/yaml", "yml": "text/yaml", "zip": "application/zip",
}
