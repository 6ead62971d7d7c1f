// The lead's page: links are made, shown once and revoked.

import { ask } from "./server.js";

const notice = document.getElementById("notice");
const box = document.getElementById("link");
const form = document.getElementById("invite");
const link = box.querySelector("input");

function say(message) {
  notice.textContent = message;
  notice.hidden = !message;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const made = await ask("/api/lead/invite", { name: form.elements.name.value, lead: form.elements.lead.checked });
    link.value = made.link;
    box.hidden = false;
    link.focus();
    link.select();
    form.reset();
    say("");
  } catch (error) {
    say(error.message);
  }
});

document.getElementById("copy").addEventListener("click", async () => {
  link.select();
  await navigator.clipboard?.writeText(link.value).catch(() => {});
});

for (const button of document.querySelectorAll("[data-revoke]")) {
  button.addEventListener("click", async () => {
    if (!window.confirm(button.dataset.confirm)) return;
    try {
      await ask("/api/lead/revoke", { name: button.dataset.revoke });
      window.location.reload();
    } catch (error) {
      say(error.message);
    }
  });
}
