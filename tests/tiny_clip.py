"""A tiny CLIP with random weights in a folder, as its users have one: text of at most 24 tokens, images of 16x16."""

import json
from string import ascii_lowercase, digits

import torch

LENGTH, WIDTH = 24, 32
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def saved_clip(folder, seed=0):
    """A folder with configuration, weights, tokenizer and preprocessor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    letters = ascii_lowercase + digits + ".,"
    parts = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>", BEGIN, END]
    vocabulary = {part: number for number, part in enumerate(parts)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    size = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**size, "vocab_size": len(parts), "max_position_embeddings": LENGTH, "projection_dim": 16}
    text |= {"bos_token_id": vocabulary[BEGIN], "eos_token_id": vocabulary[END], "pad_token_id": vocabulary[END]}
    seen = {**size, "image_size": 16, "patch_size": 8, "projection_dim": 16}
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=seen, projection_dim=16))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder
