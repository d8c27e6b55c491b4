// The server shows and reads times in the zone that it finds in this cookie.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.cookie = `timezone=${zone}; path=/; max-age=31536000; samesite=lax`;
