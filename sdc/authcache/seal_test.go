package authcache_test

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/mobulacloud/mobula/sdc/authcache"
)

// seal makes a token of any text, as who shares the keys can.
func seal(t *testing.T, cfg authcache.TokenConfig, text []byte) string {
	t.Helper()
	key, err1 := hex.DecodeString(cfg.Key)
	iv, err2 := hex.DecodeString(cfg.IV)
	block, err3 := aes.NewCipher(key)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err1 = z.Write(text)
	if err2 = z.Close(); err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	pad := aes.BlockSize - buf.Len()%aes.BlockSize
	buf.Write(bytes.Repeat([]byte{byte(pad)}, pad))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(buf.Bytes(), buf.Bytes())
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}
