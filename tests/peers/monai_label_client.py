"""What MONAI Label's own client says to a server, in its own environment: run by test_monai_label_client.py."""

import json
import sys
from pathlib import Path

from monailabel.client import MONAILabelClient


def main(address: str, token: str, folder: str, image: str, label: str) -> None:
    # As 3D Slicer does with an address alone, a client for each call: one that was told the token sends the
    # content-type of its last form with each later call.
    asked = MONAILabelClient(address, folder, "ann")
    asked.update_auth(asked.auth_token("ann", token))
    told = {"auth": [asked.auth_enabled(), asked.auth_valid_token()], "info": asked.info()}
    client = MONAILabelClient(f"{address}/{token}/", folder, "ann")
    told["sample"] = sample = client.next_sample("first", {})
    params = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    told["mask"], told["params"] = client.infer("auto", sample["id"], params)
    told["saved"] = client.save_label(sample["id"], label, "", {"label_info": [{"name": "box", "idx": 1}]})
    told["objects"] = client.datastore()["objects"]
    told["label"] = client.download_label(sample["id"], "final")
    told["uploaded"] = client.upload_image(image, "sent")
    session = client.create_session(image)["session_id"]
    told["session"] = client.get_session(session)
    told["of_session"], _ = client.infer("auto", "", {"result_extension": ".nii.gz"}, session_id=session)
    client.remove_session(session)
    clicks = {"label": "box", "foreground": [[7, 5, 7]], "background": [], "result_extension": ".nii.gz"}
    told["clicked"], _ = client.infer("click-points", sample["id"], clicks)
    told["running"] = client.train_status(check_if_running=True)
    Path(folder, "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
