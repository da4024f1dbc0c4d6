document.getElementById("order")?.addEventListener("click", async () => {
  const answer = await fetch("/orders", { method: "POST", body: "{}" });
  alert(answer.ok ? "Thank you!" : "Please try again in a few minutes.");
});
