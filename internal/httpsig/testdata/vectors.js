// Makes vectors.json: what http-signature, sshpk and smartdc-auth, unmodified from npm, make of keys and requests.
//
//	npm install manta@5.4.2
//	node vectors.js DIR >vectors.json
//
// DIR holds private keys made by ssh-keygen and openssl; they are for these tests only.
'use strict';
const fs = require('fs');
const path = require('path');
const {createRequire} = require('module');
const need = createRequire(path.join(process.cwd(), 'x.js'));
const sshpk = need('sshpk');
const httpSignature = need('http-signature');
const auth = need('smartdc-auth');

const NOW = Date.UTC(2026, 10, 23, 9, 0, 0);
Date.now = () => NOW;
const RealDate = Date;
global.Date = class extends RealDate {
	constructor(...a) { a.length ? super(...a) : super(NOW); }
};
const DATE = 'Mon, 23 Nov 2026 09:00:00 GMT';

const out = {keys: [], requests: [], parses: [], urls: []};
const dir = process.argv[2];
const names = ['rsa2048', 'rsapem', 'ecdsa256', 'ecpkcs8', 'ecdsa384', 'ecdsa521', 'ed25519', 'dsa1024'];
const keys = {};
for (const name of names) {
	const text = fs.readFileSync(path.join(dir, name), 'ascii').replace(/-----BEGIN DSA PARAMETERS-----[^]*-----END DSA PARAMETERS-----\n/, '');
	const key = keys[name] = sshpk.parsePrivateKey(text);
	key.comment = name;
	const pub = key.toPublic();
	pub.comment = name;
	const v = {name, private: key.type === 'dsa' ? key.toString('pem') : text, type: key.type, openssh: pub.toString('ssh'), pkcs8: pub.toString('pkcs8'),
		md5: pub.fingerprint('md5').toString('hex'), sha256: pub.fingerprint('sha256').toString(), signatures: []};
	for (const hash of ['sha1', 'sha256', 'sha384', 'sha512']) {
		if (key.type === 'rsa' && hash === 'sha384') continue; // sshpk cannot
		if (key.type === 'ed25519' && hash !== 'sha512') continue;
		if (key.type === 'dsa' && hash !== 'sha1' && hash !== 'sha256') continue;
		if (key.type === 'ecdsa' && hash === 'sha1') continue;
		const s = key.createSign(hash);
		s.update('date: ' + DATE);
		v.signatures.push({algorithm: key.type + '-' + hash, signature: s.sign().toString('asn1')});
	}
	out.keys.push(v);
}

const target = '/demo/stor/a%20b//c?limit=10&x=%2F';
const headers = {date: DATE, host: 'manta.example.com:8080', 'x-a': 'one, two', 'content-type': 'text/plain'};
for (const [key, items, extra] of [
	['rsa2048', undefined], ['rsapem', ['date', 'host', '(request-target)']], ['ecdsa256', ['request-line', 'DATE', 'x-a']],
	['ed25519', ['date', '(keyid)', '(algorithm)', 'content-type']], ['dsa1024', ['date']],
	['rsa2048', ['(created)', '(expires)', '(opaque)', 'date']],
]) {
	const set = {};
	const req = {method: 'PUT', path: target, getHeader: (h) => headers[h.toLowerCase()], setHeader: (h, v) => { set[h.toLowerCase()] = v; }};
	httpSignature.signRequest(req, {key: keys[key], keyId: '/demo/keys/' + keys[key].fingerprint('md5').toString('hex'), headers: items, opaque: 'o p'});
	out.requests.push({key, authorization: set.authorization});
}

// What the parser makes of headers: the text to be signed, or its message.
const ok = 'keyId="/demo/keys/k",algorithm="rsa-sha256"';
for (const authorization of [
	`Signature ${ok},signature="s"`,
	`Signature ${ok},headers="",signature="s"`,
	`Signature ${ok},headers="host Date",signature="s"`,
	`Signature ${ok},headers="host",signature="s"`,
	`Signature ${ok},headers="date  host",signature="s"`,
	`Signature ${ok},headers="date nope",signature="s"`,
	`Signature ${ok},headers="date (opaque)",signature="s"`,
	`Signature ${ok},headers="date (opaque)",opaque="",signature="s"`,
	`Signature ${ok},created=1795424400,headers="date (created)",signature="s"`,
	`Signature ${ok},created=1795424800,headers="date (created)",signature="s"`,
	`Signature ${ok},created="1795424400",headers="date (created)",signature="s"`,
	`Signature ${ok},expires=1795424000,headers="date (expires)",signature="s"`,
	`Signature ${ok},expires=1795424200,headers="date (expires)",signature="s"`,
	`Signature ${ok}, signature="s"`,
	`Signature ${ok},signature="s" `,
	`Signature ${ok},signature="s",`,
	`Signature ${ok},signature="s",junk`,
	`Signature ${ok},signature="s",junk=`,
	`Signature ${ok},signature="s",junk="`,
	`Signature ${ok},signature="s",junk="x"`,
	`Signature ${ok},signature="s",a-b="x"`,
	`Signature ${ok},signature="s",="x"`,
	`Signature ${ok},signature="s",x=y`,
	`Signature ${ok},signature="s",x=1y`,
	`Signature ${ok},signature=""`,
	`Signature ${ok}`,
	`Signature ${ok},signature="s`,
	`Signature algorithm="rsa-sha256",signature="s"`,
	`Signature keyId="k",signature="s"`,
	`Signature keyId="a",keyId="/demo/keys/k",algorithm="rsa-sha256",signature="s",headers="date (keyid)"`,
	`Signature KEYID="a",algorithm="rsa-sha256",signature="s"`,
	`signature ${ok},signature="s"`,
	`Signature  ${ok},signature="s"`,
	`Signature `,
	`Signature keyId="k",algorithm="RSA-SHA256",signature="s",headers="date (algorithm)"`,
	`Signature keyId="k",algorithm="hmac-sha256",signature="s"`,
	`Signature keyId="k",algorithm="rsa-md5",signature="s"`,
	`Signature keyId="k",algorithm="rsa",signature="s"`,
	`Signature keyId="k",algorithm="foo-sha1",signature="s"`,
	`Signature keyId="k",algorithm="rsa-sha1-x",signature="s"`,
	`Signature ${ok},headers="date request-line (request-target)",signature="s"`,
]) {
	const v = {authorization};
	try {
		const p = httpSignature.parseRequest({method: 'PUT', url: target, httpVersion: '1.1', headers: Object.assign({authorization}, headers)});
		v.text = p.signingString;
	} catch (e) {
		v.error = e.message;
	}
	out.parses.push(v);
}

const jobs = [];
for (const [key, o] of [
	['rsa2048', {}], ['ecdsa256', {method: 'PUT'}], ['ed25519', {method: ['PUT', 'OPTIONS'], query: {b: '!\'()*~ ü', B: '1', a: '/+'}}],
	['rsa2048', {role: ['r1', 'r 2'], 'role-tag': ['t']}], ['rsa2048', {subuser: 'bob', mantaSubUser: true}],
	['dsa1024', {query: {Zebra: 'z', 'role-x': '', keyid: '2'}}],
]) {
	const kp = auth.KeyRing && require(path.join(process.cwd(), 'node_modules/smartdc-auth/lib/keypair.js')).KeyPair.fromPrivateKey(keys[key]);
	const sign = kp.createSign({user: 'demo', keyId: keys[key].fingerprint('md5').toString('hex')});
	jobs.push(new Promise((done, fail) => auth.signUrl(Object.assign({
		host: 'manta.example.com:8080', keyId: 'k', user: 'demo', path: '/demo/stor/a%20b', expires: 1795424460, sign,
	}, o), (err, url) => err ? fail(err) : done({key, method: [].concat(o.method || 'GET')[0], url}))));
}
Promise.all(jobs).then((urls) => {
	out.urls = urls;
	process.stdout.write(JSON.stringify(out, null, '\t') + '\n');
});
